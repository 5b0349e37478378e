//! How many connections there are, and of which addresses. A connection counts from its accept until its socket
//! ends: while HTTP is spoken by a [`Permit`], then by its session, which takes the address's part of it along.
use crate::fanout::newcomer::Guard;
use crate::fanout::shards::Shards;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// How many long answers a connection may be given at the same time: with half a megabyte each they hold as much as two sessions that
/// read slowly.
const LONG_ANSWERS: usize = 4;

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The edge has as many as it may.
    Edge,
    /// The address has.
    Address,
}

/// The count of one edge.
#[derive(Debug)]
pub struct Connections {
    shards: Shards,
    /// 0 is no limit.
    max: usize,
    http: Arc<AtomicUsize>,
    addresses: Arc<Addresses>,
}

#[derive(Debug)]
struct Addresses {
    /// 0 is no limit, and nothing is counted.
    max: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection while HTTP is spoken on it.
#[derive(Debug)]
pub struct Permit {
    http: Arc<AtomicUsize>,
    /// The address's part, where addresses are counted.
    address: Option<Arc<AddressPermit>>,
    /// How many more long answers it may be given at the same time.
    pub turns: Arc<Semaphore>,
}

/// One connection of an address.
#[derive(Debug)]
pub struct AddressPermit {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Connections {
    /// Counts the connections of an edge beside the sessions of `shards`.
    pub fn new(shards: Shards, max: usize, max_per_address: usize) -> Self {
        let addresses = Arc::new(Addresses { max: max_per_address, counts: Mutex::default() });
        Self { shards, max, http: Arc::default(), addresses }
    }

    /// Takes one more, if there is room.
    pub fn admit(&self, address: IpAddr) -> Result<Permit, Full> {
        if self.max > 0 && self.count() >= self.max {
            return Err(Full::Edge);
        }
        let address = match self.addresses.max {
            0 => None,
            _ => Some(Arc::new(self.addresses.admit(address.to_canonical()).ok_or(Full::Address)?)),
        };
        self.http.fetch_add(1, Ordering::AcqRel);
        let turns = Arc::new(Semaphore::new(LONG_ANSWERS));
        Ok(Permit { http: self.http.clone(), address, turns })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.http.load(Ordering::Acquire) + self.shards.sessions()
    }
}

impl Addresses {
    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<AddressPermit> {
        let mut counts = self.counts();
        let count = counts.entry(address).or_insert(0);
        (*count < self.max).then(|| {
            *count += 1;
            AddressPermit { addresses: self.clone(), address }
        })
    }

    /// Counts stay right whatever panics: each change is one step.
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// What a session takes along, to be counted for its address when the connection is no more.
    pub fn guard(&self) -> Option<Guard> {
        self.address.clone().map(|address| address as Guard)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.http.fetch_sub(1, Ordering::AcqRel);
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
