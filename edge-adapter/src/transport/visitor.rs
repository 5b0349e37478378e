//! Who is behind a request: one address, which may be behind a proxy, and its share of the connections.
use crate::fanout::newcomer::Bond;
use crate::transport::Doors;
use crate::transport::addresses::AddressPermit;
use crate::transport::problem::Problem;
use crate::transport::refusals::Refusals;
use crate::wire::event::Code;
use http::Extensions;
use std::net::IpAddr;
use std::sync::Arc;

/// When to come back to an edge that has no memory to spare, in milliseconds.
const MEMORY_RETRY_MS: u64 = 5000;

/// A client, for as long as its connection, or a proxy's request for it, and what comes of it.
#[derive(Debug)]
pub struct Visitor {
    /// As addresses are counted.
    address: IpAddr,
    refusals: Arc<Refusals>,
    /// Its share, where shares are counted.
    _place: Option<AddressPermit>,
}

impl Visitor {
    /// A client of this address.
    pub fn new(address: IpAddr, refusals: Arc<Refusals>, place: Option<AddressPermit>) -> Self {
        Self { address, refusals, _place: place }
    }
}

impl Bond for Visitor {
    fn forged(&self) {
        self.refusals.note(self.address);
    }
}

/// Why someone is not let in for the moment.
#[derive(Debug)]
pub enum NotNow {
    /// There is no memory to spare.
    Memory,
    /// Too many tokens of the address were refused.
    Refusals(Problem),
}

impl NotNow {
    /// Looks whether the visitor of a request may come in, and counts it if not.
    pub fn look(doors: &Doors, visitor: Option<&Visitor>) -> Option<NotNow> {
        if doors.memory.is_shedding() {
            doors.metrics.http_refusal("memory");
            return Some(NotNow::Memory);
        }
        let visitor = visitor?;
        let ban = visitor.refusals.ban(visitor.address)?;
        doors.metrics.http_refusal("refused_tokens");
        Some(NotNow::Refusals(ban.into()))
    }

    /// What a plain request is told.
    pub fn problem(self) -> Problem {
        match self {
            NotNow::Memory => {
                Problem::not_now(Code::ResourceExhausted, "this edge has no memory to spare", MEMORY_RETRY_MS)
            }
            NotNow::Refusals(problem) => problem,
        }
    }
}

/// Who is behind a request.
pub fn of(extensions: &Extensions) -> Option<&Arc<Visitor>> {
    extensions.get::<Arc<Visitor>>()
}
