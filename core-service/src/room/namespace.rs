//! What is otherwise in the rooms of some namespaces.
use super::id::RoomName;
use std::collections::HashMap;

/// Something that holds in a room, by its namespace.
#[derive(Debug, Clone)]
pub struct ByNamespace<T> {
    others: T,
    named: HashMap<Box<str>, T>,
}

impl<T: Copy> ByNamespace<T> {
    /// By the names of namespaces; `others` holds where nothing else does.
    pub fn new(others: T, named: impl IntoIterator<Item = (Box<str>, T)>) -> Self {
        Self { others, named: named.into_iter().collect() }
    }

    /// What holds in a room.
    pub fn of(&self, room: &RoomName) -> T {
        // Most deployments have none, and then no name is looked at.
        let named = (!self.named.is_empty()).then(|| self.named.get(room.namespace())).flatten();
        named.copied().unwrap_or(self.others)
    }
}
