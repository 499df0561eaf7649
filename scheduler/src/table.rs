//! Maps with many names for keys: thousands of boards are looked up several times for each task.

use std::{collections::BTreeSet, hash::Hash};

use indexmap::IndexMap;

/// Looked up by key, walked in the order in which its keys came and went. Its hasher has no random source, so that
/// the same events cost the same.
pub(crate) type Table<K, V> = IndexMap<K, V, foldhash::fast::FixedState>;

/// The same, walked in the order of its keys.
#[derive(Clone, Debug)]
pub(crate) struct OrderedTable<K, V> {
    keys: BTreeSet<K>,
    values: Table<K, V>,
}

impl<K, V> Default for OrderedTable<K, V> {
    fn default() -> Self {
        Self { keys: BTreeSet::new(), values: Table::default() }
    }
}

impl<K: Clone + Eq + Hash + Ord, V> OrderedTable<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    pub(crate) fn get_key_value(&self, key: &K) -> Option<(&K, &V)> {
        self.values.get_key_value(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key)
    }

    /// What is there, or else this.
    pub(crate) fn get_or_insert_with(&mut self, key: &K, value: impl FnOnce() -> V) -> &mut V {
        if !self.values.contains_key(key) {
            self.keys.insert(key.clone());
        }
        self.values.entry(key.clone()).or_insert_with(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.keys.iter().filter_map(|key| self.values.get_key_value(key))
    }

    /// In any order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.values.values()
    }

    /// In any order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.values.iter_mut()
    }
}
