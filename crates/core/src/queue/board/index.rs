//! Finds the parts of the board by what they are called. Called by the lanes alone.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::slab::Slab;

/// What an item is found by.
pub trait Keyed {
    type Key: ?Sized + Hash + Eq;

    fn is(&self, key: &Self::Key) -> bool;

    fn hash(&self, hasher: &DefaultHashBuilder) -> u64;
}

/// Finds the items of a slab; it holds their numbers alone.
#[derive(Debug, Default)]
pub struct Index {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Index {
    pub fn find<T: Keyed + Default>(&self, slab: &Slab<T>, key: &T::Key) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |id| slab.at(*id).is(key)).copied()
    }

    pub fn insert<T: Keyed + Default>(&mut self, slab: &Slab<T>, id: u32) {
        let hasher = &self.hasher;
        let hash = |id: &u32| slab.at(*id).hash(hasher);
        self.table.insert_unique(hash(&id), id, hash);
    }

    /// Before the item is taken out of its slab.
    pub fn remove<T: Keyed + Default>(&mut self, slab: &Slab<T>, id: u32) {
        let hash = slab.at(id).hash(&self.hasher);
        if let Ok(found) = self.table.find_entry(hash, |other| *other == id) {
            found.remove();
        }
    }
}

/// Names that are in use, by number.
#[derive(Debug, Default)]
pub struct Names {
    names: Slab<Name>,
    by_text: Index,
}

#[derive(Debug, Default)]
struct Name {
    text: Box<str>,
    uses: u32,
}

impl Keyed for Name {
    type Key = str;

    fn is(&self, key: &str) -> bool {
        *self.text == *key
    }

    fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
        hasher.hash_one(&*self.text)
    }
}

impl Names {
    /// The number of a name. One that is not used afterwards stays until it was.
    pub fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.by_text.find(&self.names, text) {
            return number;
        }
        let number = self.names.insert(Name {
            text: Box::from(text),
            uses: 0,
        });
        self.by_text.insert(&self.names, number);
        number
    }

    pub fn text(&self, number: u32) -> &str {
        &self.names.at(number).text
    }

    pub fn used(&mut self, number: u32) {
        self.names.at_mut(number).uses += 1;
    }

    pub fn unused(&mut self, number: u32) {
        let name = self.names.at_mut(number);
        name.uses -= 1;
        if name.uses == 0 {
            self.by_text.remove(&self.names, number);
            self.names.remove(number);
        }
    }
}
