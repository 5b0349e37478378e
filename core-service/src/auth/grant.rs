//! What a caller may do. A grant is made from a token once; each command is then held against it.
use crate::room::id::{RoomName, UserName};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Something that one can do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// To be in it and to hear what is said.
    Join,
    /// To say something that is kept.
    Publish,
    /// To read what was said.
    History,
    /// To see who is online.
    Presence,
    /// To say something that is not kept; typing is that, too.
    Signal,
}

impl Act {
    const ALL: [Act; 5] = [Act::Join, Act::Publish, Act::History, Act::Presence, Act::Signal];

    /// Its name in a token.
    pub fn name(self) -> &'static str {
        match self {
            Act::Join => "join",
            Act::Publish => "publish",
            Act::History => "history",
            Act::Presence => "presence",
            Act::Signal => "signal",
        }
    }
}

/// Several of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acts(u8);

impl Acts {
    /// All of them.
    pub const ALL: Acts = Acts((1 << Act::ALL.len()) - 1);

    /// By their names in a token. A name that this build does not know allows nothing.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Acts {
        let bit =
            |name: &str| Act::ALL.into_iter().find(|act| act.name() == name).map_or(0, |act| 1 << act as u8);
        Acts(names.into_iter().fold(0, |acts, name| acts | bit(name)))
    }

    /// Whether it is among them.
    pub fn has(self, act: Act) -> bool {
        self.0 & (1 << act as u8) != 0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Act::ALL.into_iter().filter(move |act| self.has(*act)).map(Act::name)
    }
}

/// What is allowed where a token names no rooms, by namespace: everything, where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults(Option<Arc<HashMap<Box<str>, Acts>>>);

impl Defaults {
    /// By the names of namespaces.
    pub fn new(namespaces: impl IntoIterator<Item = (Box<str>, Acts)>) -> Defaults {
        let named: HashMap<_, _> = namespaces.into_iter().filter(|(_, allow)| *allow != Acts::ALL).collect();
        Defaults((!named.is_empty()).then(|| Arc::new(named)))
    }

    fn of(&self, room: &RoomName) -> Acts {
        let named = self.0.as_ref().and_then(|named| named.get(room.namespace()));
        named.copied().unwrap_or(Acts::ALL)
    }
}

/// What is allowed in rooms of some names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The names: `*` stands for any number of any characters, all else for itself.
    pub pattern: Box<str>,
    /// What is allowed there.
    pub allow: Acts,
}

/// A user and its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who: in whose name its sessions speak.
    pub user: UserName,
    /// Whose token it is: another's only where a service speaks in somebody's name.
    pub subject: UserName,
    /// A service may write to personal rooms, publish `system` events, and speak in others' names.
    pub service: bool,
    /// What is allowed where, as the token says. One that says nothing allows what the namespaces do, but in others' personal rooms.
    pub rules: Option<Vec<Rule>>,
    /// What the namespaces do.
    pub defaults: Defaults,
    /// When its token was issued, since 1970; none where it does not say.
    pub issued_at: Option<Duration>,
    /// When it ends, since 1970; never in dev mode.
    pub expires_at: Option<Duration>,
    /// The token's id, by which it may be revoked.
    pub token_id: Option<Box<str>>,
    /// What its sessions show in a room before they set something: a JSON object on one line.
    pub meta: Option<Box<str>>,
}

impl Grant {
    /// What somebody is granted in dev mode: to be whoever it says.
    pub fn dev(user: UserName) -> Grant {
        Grant {
            subject: user.clone(),
            user,
            service: false,
            rules: None,
            defaults: Defaults::default(),
            issued_at: None,
            expires_at: None,
            token_id: None,
            meta: None,
        }
    }

    /// Whether it allows to do this there. A personal room is its user's, without a rule: to be in, to read, to see who is there. Only services
    /// say something there.
    pub fn may(&self, act: Act, room: &RoomName) -> bool {
        match room.personal() {
            Some(owner) if !self.service => {
                let owned = owner == self.user.as_str() && self.defaults.of(room).has(act);
                owned && !matches!(act, Act::Publish | Act::Signal)
            }
            _ => match &self.rules {
                Some(rules) => {
                    rules.iter().any(|rule| rule.allow.has(act) && matches(&rule.pattern, room.as_str()))
                }
                // Namespaces say what users may; a service is narrowed by its own token alone.
                None => self.service || self.defaults.of(room).has(act),
            },
        }
    }

    /// Whether it has ended.
    pub fn is_over(&self, now: Duration) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// Whether a pattern fits a name. A `*` takes as little as it can, and more only when the rest does not fit: only the last one is ever tried
/// again, so the time is bounded by the product of both lengths.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room(name: &str) -> RoomName {
        RoomName::new(name).unwrap()
    }

    fn ann(service: bool, rules: Option<&[(&str, &[&str])]>) -> Grant {
        let rule = |(pattern, allow): &(&str, &[&str])| Rule {
            pattern: (*pattern).into(),
            allow: Acts::named(allow.iter().copied()),
        };
        let rules = rules.map(|rules| rules.iter().map(rule).collect());
        Grant { service, rules, ..Grant::dev(UserName::new("ann").unwrap()) }
    }

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("*", "anything", true),
            ("chat:*", "chat:1", true),
            ("chat:*", "chat:", true),
            ("chat:*", "chat", false),
            ("chat:*", "xchat:1", false),
            ("*:1", "chat:1", true),
            ("*:1", "chat:11", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("**", "x", true),
            ("chat", "chat", true),
            ("chat", "chat2", false),
            ("", "x", false),
            ("c?at", "chat", false),
            ("[c]hat", "chat", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn without_rules_all_is_allowed_but_others_rooms() {
        let ann = ann(false, None);
        for act in Act::ALL {
            assert!(ann.may(act, &room("lobby")));
            assert!(!ann.may(act, &room("~bob")));
        }
        let own: Vec<_> = Act::ALL.into_iter().filter(|act| ann.may(*act, &room("~ann"))).collect();
        assert_eq!(own, [Act::Join, Act::History, Act::Presence]);
    }

    #[test]
    fn rules_are_all_there_is() {
        let ann = ann(false, Some(&[("chat:*", &["join", "history", "fly"]), ("chat:1", &["publish"])]));
        assert!(ann.may(Act::Join, &room("chat:1")) && ann.may(Act::Publish, &room("chat:1")));
        assert!(ann.may(Act::History, &room("chat:2")) && !ann.may(Act::Publish, &room("chat:2")));
        assert!(!ann.may(Act::Signal, &room("chat:1")) && !ann.may(Act::Join, &room("lobby")));
        assert!(ann.may(Act::Join, &room("~ann")), "one's own room needs no rule");
        assert_eq!(ann.rules.unwrap()[0].allow.names().collect::<Vec<_>>(), ["join", "history"]);
        assert!(!self::ann(false, Some(&[])).may(Act::Join, &room("lobby")));
    }

    #[test]
    fn namespaces_say_what_a_token_does_not() {
        let some = |acts: &[&str]| Acts::named(acts.iter().copied());
        let namespaces = [("news", some(&["join", "history"])), ("~", some(&["join"])), ("all", Acts::ALL)];
        let defaults = Defaults::new(namespaces.map(|(name, allow)| (name.into(), allow)));
        let by = |service, rules| Grant { defaults: defaults.clone(), ..ann(service, rules) };
        let user = by(false, None);
        assert!(user.may(Act::Join, &room("news:1")) && !user.may(Act::Publish, &room("news:1")));
        // The name of a namespace is not in it.
        assert!(user.may(Act::Publish, &room("news")) && user.may(Act::Publish, &room("all:1")));
        assert!(user.may(Act::Join, &room("~ann")) && !user.may(Act::History, &room("~ann")));
        assert!(by(true, None).may(Act::Publish, &room("news:1")));
        let ruled = by(false, Some(&[("news:*", &["publish"])]));
        assert!(ruled.may(Act::Publish, &room("news:1")) && !ruled.may(Act::Join, &room("news:1")));
    }

    #[test]
    fn services_may_enter_everywhere_unless_they_have_rules() {
        assert!(ann(true, None).may(Act::Publish, &room("~bob")));
        let narrow = ann(true, Some(&[("~*", &["publish"])]));
        assert!(narrow.may(Act::Publish, &room("~bob")) && !narrow.may(Act::Join, &room("~bob")));
        assert!(!narrow.may(Act::Publish, &room("lobby")));
    }

    #[test]
    fn a_grant_ends_at_its_time() {
        let end = Some(Duration::from_secs(100));
        let grant = Grant { expires_at: end, ..ann(false, None) };
        assert!(!grant.is_over(Duration::from_secs(99)) && grant.is_over(Duration::from_secs(100)));
        assert!(!ann(false, None).is_over(Duration::MAX));
    }

    proptest! {
        /// Against the plain recursive meaning.
        #[test]
        fn a_pattern_means_what_it_says(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            fn plain(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern.split_first(), name.split_first()) {
                    (None, None) => true,
                    (Some((b'*', rest)), _) => {
                        plain(rest, name) || name.split_first().is_some_and(|(_, less)| plain(pattern, less))
                    }
                    (Some((a, rest)), Some((b, less))) => a == b && plain(rest, less),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &name), plain(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
