//! The epochs of rooms that are published to but not joined: what lets a publish whose ack was lost be sent again
//! without the danger of a second event.
use std::{collections::HashMap, mem, sync::Arc};

/// How many rooms are surely remembered, and at most twice as many: some 100 bytes each. For one that is forgotten
/// a lost ack means `unavailable` instead of another try.
const ROOMS: usize = 8192;

/// Remembers what was learnt lately. Two generations instead of a list in order of use: nothing is moved on a hit.
#[derive(Debug, Default)]
pub struct Epochs {
    young: HashMap<Arc<str>, Arc<str>>,
    old: HashMap<Arc<str>, Arc<str>>,
}

impl Epochs {
    /// The room has this epoch now.
    pub fn learn(&mut self, room: &Arc<str>, epoch: &str) {
        if epoch.is_empty() || self.young.get(room).is_some_and(|known| **known == *epoch) {
            return;
        }
        if self.young.len() >= ROOMS {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(Arc::clone(room), epoch.into());
    }

    /// The epoch that the room had when it was last heard of.
    pub fn get(&self, room: &str) -> Option<Arc<str>> {
        self.young.get(room).or_else(|| self.old.get(room)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_latest_and_forgets_the_oldest() {
        let mut epochs = Epochs::default();
        let room = |n: usize| -> Arc<str> { format!("room-{n}").into() };
        epochs.learn(&room(0), "a");
        epochs.learn(&room(0), "b");
        epochs.learn(&room(1), "");
        assert_eq!(epochs.get("room-0").as_deref(), Some("b"));
        assert_eq!(epochs.get("room-1"), None);
        (1..=ROOMS).for_each(|n| epochs.learn(&room(n), "c"));
        assert_eq!(epochs.get("room-0").as_deref(), Some("b"));
        (1..=2 * ROOMS).for_each(|n| epochs.learn(&room(n), "d"));
        assert_eq!(epochs.get("room-0"), None);
        assert_eq!(epochs.get(&room(2 * ROOMS)).as_deref(), Some("d"));
        assert!(epochs.young.len() <= ROOMS && epochs.old.len() <= ROOMS);
    }
}
