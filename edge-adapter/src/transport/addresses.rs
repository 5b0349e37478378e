//! How many connections there are of which addresses.
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counts; an address without connections has none.
#[derive(Debug)]
pub struct Addresses {
    /// 0 is no limit, and nothing is counted.
    max: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of an address.
#[derive(Debug)]
pub struct AddressPermit {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

/// It has as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMore;

impl Addresses {
    /// Each address may have so many; 0 is no limit.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, counts: Mutex::default() })
    }

    /// Takes one more of an address, if it may have it; none where nothing is counted.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Option<AddressPermit>, NoMore> {
        if self.max == 0 {
            return Ok(None);
        }
        let mut counts = self.counts();
        let count = counts.entry(address).or_insert(0);
        if *count >= self.max {
            return Err(NoMore);
        }
        *count += 1;
        Ok(Some(AddressPermit { addresses: self.clone(), address }))
    }

    /// Counts stay right whatever panics: each change is one step.
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
