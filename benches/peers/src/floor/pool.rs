//! Objects and those who wait for them, behind one lock: two short locks for a loan.

use parking_lot::Mutex;

pub(crate) struct Shelf(Mutex<Vec<u64>>);

impl Shelf {
    pub(crate) fn new(objects: u64) -> Self {
        Self(Mutex::new((0..objects).collect()))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<Lent<'_>> {
        let object = self.0.lock().pop()?;
        Some(Lent {
            shelf: self,
            object,
        })
    }
}

pub(crate) struct Lent<'a> {
    shelf: &'a Shelf,
    pub(crate) object: u64,
}

impl Drop for Lent<'_> {
    #[inline]
    fn drop(&mut self) {
        self.shelf.0.lock().push(self.object);
    }
}
