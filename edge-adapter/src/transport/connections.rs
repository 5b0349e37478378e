//! How many connections there are, and of which addresses. A connection counts from its accept until its socket
//! ends: while HTTP is spoken by a [`Permit`], then by its session, which takes the address's part of it along. A trusted proxy's
//! connection carries requests of many, so there each request counts for the address that the proxy names.
use crate::config::Defence;
use crate::config::network::{self, Network};
use crate::fanout::shards::Shards;
use crate::transport::addresses::{Addresses, NoMore};
use crate::transport::refusals::Refusals;
use crate::transport::visitor::Visitor;
use http::HeaderMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// How many long answers a connection may be given at the same time: with half a megabyte each they hold as much as two sessions that
/// read slowly.
const LONG_ANSWERS: usize = 4;

/// What a proxy adds the address to that it had a request from.
const FORWARDED_FOR: &str = "x-forwarded-for";

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
    clients: Clients,
}

/// Whose connections they are.
#[derive(Debug, Clone)]
struct Clients {
    addresses: Arc<Addresses>,
    trusted: Arc<[Network]>,
    refusals: Arc<Refusals>,
}

/// One connection while HTTP is spoken on it.
#[derive(Debug)]
pub struct Permit {
    http: Arc<AtomicUsize>,
    peer: IpAddr,
    /// Who is behind it; a trusted proxy says that with each request.
    visitor: Option<Arc<Visitor>>,
    clients: Clients,
    /// How many more long answers it may be given at the same time.
    pub turns: Arc<Semaphore>,
}

impl Connections {
    /// Counts the connections of an edge beside the sessions of `shards`.
    pub fn new(shards: Shards, max: usize, max_per_address: usize, defence: &Defence) -> Self {
        let clients = Clients {
            addresses: Addresses::new(max_per_address),
            trusted: defence.trusted_proxies.clone().into(),
            refusals: Arc::new(Refusals::new(defence.max_refused_tokens)),
        };
        Self { shards, max, http: Arc::default(), clients }
    }

    /// Takes one more, if there is room.
    pub fn admit(&self, peer: IpAddr) -> Result<Permit, Full> {
        if self.max > 0 && self.count() >= self.max {
            return Err(Full::Edge);
        }
        let clients = self.clients.clone();
        let visitor = if clients.trust(peer) { None } else { Some(clients.visitor(peer)?) };
        self.http.fetch_add(1, Ordering::AcqRel);
        let turns = Arc::new(Semaphore::new(LONG_ANSWERS));
        Ok(Permit { http: self.http.clone(), peer, visitor, clients, turns })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.http.load(Ordering::Acquire) + self.shards.sessions()
    }
}

impl Clients {
    fn trust(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }

    fn visitor(&self, address: IpAddr) -> Result<Arc<Visitor>, Full> {
        let address = network::counted(address);
        let place = self.addresses.admit(address).map_err(|NoMore| Full::Address)?;
        Ok(Arc::new(Visitor::new(address, self.refusals.clone(), place)))
    }
}

impl Permit {
    /// Who is behind a request with these headers. A session takes it along, to be counted for its address when the connection is no more.
    pub fn visitor(&self, headers: &HeaderMap) -> Result<Arc<Visitor>, Full> {
        if let Some(visitor) = &self.visitor {
            return Ok(visitor.clone());
        }
        // What is no text stays in the line, where it is nobody's word: without it the line before would be taken for the proxy's.
        let lines: Vec<_> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        self.clients.visitor(network::client(
            &self.clients.trusted,
            self.peer,
            lines.iter().map(AsRef::as_ref),
        ))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.http.fetch_sub(1, Ordering::AcqRel);
    }
}
