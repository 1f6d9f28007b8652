//! Numbered places for the parts of the board, and lists that run through them: neither adding nor
//! taking out from the middle allocates or searches. Called by the board alone.

/// No place.
pub const NONE: u32 = u32::MAX;

const CHUNK_BITS: u32 = 10;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Items by number. Grows by chunks, so that nothing large is ever copied.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
    /// What is found where nothing is.
    vacant: T,
}

impl<T: Default> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            chunks: Vec::new(),
            free: Vec::new(),
            vacant: T::default(),
        }
    }
}

impl<T: Default> Slab<T> {
    /// Gives an item a number.
    pub fn insert(&mut self, item: T) -> u32 {
        if let Some(id) = self.free.pop() {
            *self.at_mut(id) = item;
            return id;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) << CHUNK_BITS;
        match self.chunks.last_mut() {
            Some(last) => {
                last.push(item);
                (before + last.len() - 1) as u32
            }
            None => NONE,
        }
    }

    /// Takes an item out; its number is given again.
    pub fn remove(&mut self, id: u32) -> T {
        self.free.push(id);
        std::mem::take(self.at_mut(id))
    }

    pub fn at(&self, id: u32) -> &T {
        let chunk = self.chunks.get((id >> CHUNK_BITS) as usize);
        chunk
            .and_then(|chunk| chunk.get(id as usize & (CHUNK - 1)))
            .unwrap_or(&self.vacant)
    }

    pub fn at_mut(&mut self, id: u32) -> &mut T {
        let chunk = self.chunks.get_mut((id >> CHUNK_BITS) as usize);
        chunk
            .and_then(|chunk| chunk.get_mut(id as usize & (CHUNK - 1)))
            .unwrap_or(&mut self.vacant)
    }

    /// All places with their numbers, also those that are free.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.chunks.iter().flatten())
    }
}

/// The neighbours of an item in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    prev: u32,
    next: u32,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            prev: NONE,
            next: NONE,
        }
    }
}

/// An item that may stand in one list at a time.
pub trait Linked: Default {
    fn link(&mut self) -> &mut Link;
}

/// Which end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Front,
    Back,
}

/// A list through the items of a slab.
#[derive(Clone, Copy, Debug)]
pub struct List {
    head: u32,
    tail: u32,
}

impl Default for List {
    fn default() -> Self {
        List {
            head: NONE,
            tail: NONE,
        }
    }
}

impl List {
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// The first; `NONE`: it is empty.
    pub fn first(&self) -> u32 {
        self.head
    }

    pub fn push<T: Linked>(&mut self, slab: &mut Slab<T>, id: u32, end: End) {
        let (prev, next) = match end {
            End::Front => (NONE, self.head),
            End::Back => (self.tail, NONE),
        };
        *slab.at_mut(id).link() = Link { prev, next };
        self.join(slab, prev, id);
        self.join(slab, id, next);
    }

    /// Takes out an item that stands in this list.
    pub fn remove<T: Linked>(&mut self, slab: &mut Slab<T>, id: u32) {
        let Link { prev, next } = std::mem::take(slab.at_mut(id).link());
        self.join(slab, prev, next);
    }

    /// The first becomes the last.
    pub fn turn<T: Linked>(&mut self, slab: &mut Slab<T>) {
        let first = self.head;
        if first != self.tail {
            self.remove(slab, first);
            self.push(slab, first, End::Back);
        }
    }

    /// Makes two neighbours; `NONE` is what lies beyond the ends.
    fn join<T: Linked>(&mut self, slab: &mut Slab<T>, left: u32, right: u32) {
        match left {
            NONE => self.head = right,
            left => slab.at_mut(left).link().next = right,
        }
        match right {
            NONE => self.tail = left,
            right => slab.at_mut(right).link().prev = left,
        }
    }
}
