//! A transaction in the making: its long rows are put into bytes by the writer, which waits for the disk anyway, and not
//! by the loop, which everybody waits for.

use std::fmt;

use super::Transaction;

/// Makes a row's value.
type Encode = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// What the loop hands in.
#[derive(Default)]
pub struct Draft {
    made: Transaction,
    /// Keys that nothing else in here changes.
    later: Vec<(Vec<u8>, Encode)>,
}

impl Draft {
    /// Puts a row whatever was there.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.made.put(key, value);
    }

    /// The same, with a value that is made by the writer.
    pub fn put_later(&mut self, key: Vec<u8>, value: impl FnOnce() -> Vec<u8> + Send + 'static) {
        self.later.push((key, Box::new(value)));
    }

    /// Removes a row.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.made.delete(key);
    }

    /// Changes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.made.changes.len() + self.later.len()
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The transaction.
    #[must_use]
    pub fn finish(self) -> Transaction {
        let Self { mut made, later } = self;
        for (key, value) in later {
            made.put(key, value());
        }
        made
    }
}

impl From<Transaction> for Draft {
    fn from(made: Transaction) -> Self {
        Self { made, later: Vec::new() }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("made", &self.made).field("later", &self.later.len()).finish()
    }
}
