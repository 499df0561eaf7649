//! Lists and texts with a bound and without a heap.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// More than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more than the bound")
    }
}

impl core::error::Error for TooLong {}

/// At most `N` items.
#[derive(Clone, Copy)]
pub struct List<T, const N: usize> {
    items: [T; N],
    // Invariant: at most N; items beyond are T::default() and never seen.
    len: usize,
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self { items: [T::default(); N], len: 0 }
    }

    /// A copy of `from`.
    ///
    /// # Errors
    /// If `from` has more than `N` items.
    pub fn from_slice(from: &[T]) -> Result<Self, TooLong> {
        let mut list = Self::new();
        list.items.get_mut(..from.len()).ok_or(TooLong)?.copy_from_slice(from);
        list.len = from.len();
        Ok(list)
    }

    /// Appends an item.
    ///
    /// # Errors
    /// If there are `N` already.
    pub fn push(&mut self, item: T) -> Result<(), TooLong> {
        *self.items.get_mut(self.len).ok_or(TooLong)? = item;
        self.len += 1;
        Ok(())
    }
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.items.get(..self.len).unwrap_or(&self.items)
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq, const N: usize> PartialEq for List<T, N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq, const N: usize> Eq for List<T, N> {}

impl<T: Serialize, const N: usize> Serialize for List<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.len))?;
        for item in self.iter() {
            seq.serialize_element(item)?;
        }
        seq.end()
    }
}

impl<'de, T: Deserialize<'de> + Copy + Default, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Copy + Default, const N: usize> Visitor<'de> for Items<T, N> {
            type Value = List<T, N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} items")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = List::new();
                while let Some(item) = seq.next_element()? {
                    list.push(item).map_err(A::Error::custom)?;
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// At most `N` bytes of UTF-8.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    // Invariant: at most N, on a character's edge.
    len: usize,
}

impl<const N: usize> Text<N> {
    /// An empty text.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// As much of `from` as fits, cut between characters.
    #[must_use]
    pub fn cut(from: &str) -> Self {
        let mut text = Self::new();
        text.append(from);
        text
    }

    /// Appends as much of `more` as fits; false if something was cut.
    fn append(&mut self, more: &str) -> bool {
        let mut end = more.len().min(N - self.len);
        while !more.is_char_boundary(end) {
            end -= 1;
        }
        let at = self.len;
        if let (Some(to), Some(from)) = (self.bytes.get_mut(at..at + end), more.as_bytes().get(..end)) {
            to.copy_from_slice(from);
            self.len = at + end;
        }
        end == more.len()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

/// What does not fit is cut, and never an error: a panic message is better short than lost.
impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        self.append(more);
        Ok(())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for Text<N> {}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Chars<const N: usize>;
        impl<const N: usize> Visitor<'_> for Chars<N> {
            type Value = Text<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} bytes of text")
            }
            fn visit_str<E: serde::de::Error>(self, from: &str) -> Result<Text<N>, E> {
                let mut text = Text::new();
                if text.append(from) { Ok(text) } else { Err(E::custom(TooLong)) }
            }
        }
        deserializer.deserialize_str(Chars)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold() {
        assert_eq!(&*List::<u32, 3>::from_slice(&[1, 2, 3]).unwrap(), [1, 2, 3]);
        assert_eq!(List::<u32, 3>::from_slice(&[1; 4]), Err(TooLong));
        assert_eq!(&*Text::<4>::cut("abcdef"), "abcd");
        assert_eq!(&*Text::<4>::cut("abcé"), "abc");
        let wire = [4_u8, 1, 2, 3, 4];
        assert!(postcard::from_bytes::<List<u32, 3>>(&wire).is_err());
        assert!(postcard::from_bytes::<Text<2>>(b"\x03abc").is_err());
        assert!(postcard::from_bytes::<Text<4>>(b"\x02\xff\xfe").is_err());
    }
}
