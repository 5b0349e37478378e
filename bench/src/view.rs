//! What one client believes about who is online, from nothing but the frames that it was sent.
//!
//! There are hundreds of thousands of those frames, so they are read by their fixed shape. That this reads them right is seen by a
//! sample of the clients, whose frames are also read as JSON, strictly, and must say the same.
use crate::frames::after;
use serde::Deserialize;
use serde_json::Map;

/// What every frame of presence begins with, on this server.
const HEAD: &[u8] = br#"{"type":"presence","room":""#;
const EVENT: &[u8] = br#"","data":{"event":""#;

/// A user's name is this and its number.
pub const USER: &str = "u";

/// What a frame says. Users are numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// All who are online.
    State(Vec<u32>),
    /// Who has come.
    Join(u32),
    /// Who has another meta.
    Update(u32),
    /// Who has gone.
    Leave(u32),
    /// How many are online, where they are too many to be named.
    Count(u64),
}

/// Whether this is a frame of presence.
pub fn is_presence(frame: &[u8]) -> bool {
    frame.starts_with(HEAD)
}

/// Reads a frame of presence by its shape; none if it has another one.
pub fn read(frame: &[u8]) -> Option<Told> {
    let data = after(frame.strip_prefix(HEAD)?, EVENT)?;
    if let Some(user) = data.strip_prefix(br#"join","user":"u"#) {
        return Some(Told::Join(number(user)?));
    }
    if let Some(user) = data.strip_prefix(br#"leave","user":"u"#) {
        return Some(Told::Leave(number(user)?));
    }
    if let Some(user) = data.strip_prefix(br#"update","user":"u"#) {
        return Some(Told::Update(number(user)?));
    }
    if let Some(count) = data.strip_prefix(br#"count","count":"#) {
        return Some(Told::Count(number(count)?.into()));
    }
    let mut rest = data.strip_prefix(br#"state","online":["#)?;
    let mut users = Vec::new();
    while let Some(user) = after(rest, br#"{"user":"u"#) {
        users.push(number(user)?);
        rest = user;
    }
    Some(Told::State(users))
}

/// Reads it as JSON; what is wrong, if something is.
pub fn read_strictly(frame: &[u8], room: &str) -> Result<Told, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Frame {
        #[serde(rename = "type")]
        kind: String,
        room: String,
        data: Data,
    }
    #[derive(Deserialize)]
    #[serde(tag = "event", rename_all = "lowercase", deny_unknown_fields)]
    enum Data {
        State { online: Vec<Online> },
        Join(User),
        Update(User),
        Leave(User),
        Count { count: u64 },
    }
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "that it is there, and of this type, is what is checked")]
    struct User {
        user: String,
        meta: Map<String, serde_json::Value>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "that it is there, and of this type, is what is checked")]
    struct Online {
        user: String,
        meta: Map<String, serde_json::Value>,
        sessions: u32,
        since: f64,
    }
    let named = |name: &str| {
        let digits = name.strip_prefix(USER).and_then(|digits| digits.parse::<u32>().ok());
        digits.ok_or_else(|| format!("a user called {name}"))
    };
    let Frame { kind, room: its, data } = serde_json::from_slice(frame).map_err(|error| error.to_string())?;
    if kind != "presence" || its != room {
        return Err(format!("{kind} of {its}, in {room}"));
    }
    Ok(match data {
        Data::State { online } => {
            Told::State(online.iter().map(|one| named(&one.user)).collect::<Result<_, _>>()?)
        }
        Data::Join(user) => Told::Join(named(&user.user)?),
        Data::Update(user) => Told::Update(named(&user.user)?),
        Data::Leave(user) => Told::Leave(named(&user.user)?),
        Data::Count { count } => Told::Count(count),
    })
}

/// The digits that this begins with; not too many, and at least one.
fn number(text: &[u8]) -> Option<u32> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

/// Who is online, as one client has been told.
#[derive(Debug, Default)]
pub enum View {
    /// Nothing has been told.
    #[default]
    Nothing,
    /// These, in order.
    Named(Vec<u32>),
    /// So many.
    Counted(u64),
}

impl View {
    /// Takes what was told; what is wrong with it, if something is: steps must fit what was told before.
    pub fn take(&mut self, told: Told) -> Result<(), String> {
        match (told, &mut *self) {
            (Told::State(mut users), _) => {
                users.sort_unstable();
                if let Some(twice) = users.windows(2).find(|pair| pair[0] == pair[1]) {
                    return Err(format!("a state names {USER}{} twice", twice[0]));
                }
                *self = View::Named(users);
            }
            (Told::Count(count), _) => *self = View::Counted(count),
            (Told::Join(user), View::Named(users)) => match users.binary_search(&user) {
                Ok(_) => return Err(format!("{USER}{user} joins, and is there")),
                Err(place) => users.insert(place, user),
            },
            (Told::Leave(user), View::Named(users)) => match users.binary_search(&user) {
                Ok(place) => drop(users.remove(place)),
                Err(_) => return Err(format!("{USER}{user} leaves, and is not there")),
            },
            (Told::Update(user), View::Named(users)) if users.binary_search(&user).is_ok() => {}
            (step, View::Named(_)) => return Err(format!("{step:?}, and is not there")),
            (step, _) => return Err(format!("{step:?} belongs to no state")),
        }
        Ok(())
    }

    /// Whether it is what it should be where these, in order, are online, and rooms of more than `max` are counted.
    pub fn is_right(&self, online: &[u32], max: usize) -> bool {
        match self {
            View::Nothing => false,
            View::Named(users) => online.len() <= max && users == online,
            View::Counted(count) => online.len() > max && *count == online.len() as u64,
        }
    }

    /// In a few words.
    pub fn summary(&self) -> String {
        match self {
            View::Nothing => "nothing".to_owned(),
            View::Named(users) => format!("{} by name", users.len()),
            View::Counted(count) => format!("a count of {count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(data: &str) -> Vec<u8> {
        format!(r#"{{"type":"presence","room":"r","data":{data}}}"#).into_bytes()
    }

    fn view(told: impl IntoIterator<Item = Told>) -> Result<View, String> {
        let mut view = View::default();
        told.into_iter().try_for_each(|told| view.take(told))?;
        Ok(view)
    }

    #[test]
    fn both_readers_say_the_same() {
        let one = |user| format!(r#"{{"user":"u{user}","meta":{{}},"sessions":1,"since":1711000000.123}}"#);
        for (data, told) in [
            (r#"{"event":"state","online":[]}"#.to_owned(), Told::State(vec![])),
            (format!(r#"{{"event":"state","online":[{}]}}"#, one(7)), Told::State(vec![7])),
            (
                format!(r#"{{"event":"state","online":[{},{}]}}"#, one(4711), one(0)),
                Told::State(vec![4711, 0]),
            ),
            (r#"{"event":"join","user":"u12","meta":{"status":"away"}}"#.to_owned(), Told::Join(12)),
            (r#"{"event":"update","user":"u3","meta":{}}"#.to_owned(), Told::Update(3)),
            (r#"{"event":"leave","user":"u12","meta":{}}"#.to_owned(), Told::Leave(12)),
            (r#"{"event":"count","count":5000}"#.to_owned(), Told::Count(5000)),
        ] {
            let frame = frame(&data);
            assert!(is_presence(&frame));
            assert_eq!(read(&frame), Some(told.clone()), "{data}");
            assert_eq!(read_strictly(&frame, "r"), Ok(told), "{data}");
        }
    }

    #[test]
    fn what_is_no_presence_is_not_read() {
        for data in [
            r#"{"event":"join","user":"ann","meta":{}}"#,
            r#"{"event":"join","user":"u","meta":{}}"#,
            r#"{"event":"count","count":-1}"#,
            r#"{"event":"state"}"#,
            r#"{"event":"come","user":"u1","meta":{}}"#,
        ] {
            assert_eq!(read(&frame(data)), None, "{data}");
            assert!(read_strictly(&frame(data), "r").is_err(), "{data}");
        }
        for data in [r#"{"event":"join","user":"u1"}"#, r#"{"event":"count","count":1,"online":[]}"#] {
            assert!(read_strictly(&frame(data), "r").is_err(), "{data}");
        }
        assert!(read_strictly(&frame(r#"{"event":"count","count":1}"#), "other").is_err());
        let text = br#"{"type":"text","room":"r","seq":1,"data":{"event":"join","user":"u1","meta":{}}}"#;
        assert!(!is_presence(text) && read(text).is_none());
    }

    #[test]
    fn a_view_is_what_was_told() {
        let told = [Told::State(vec![5, 1]), Told::Join(3), Told::Update(3), Told::Leave(1)];
        let named = view(told.clone()).unwrap();
        assert!(named.is_right(&[3, 5], 2));
        assert!(!named.is_right(&[3, 5], 1) && !named.is_right(&[3, 6], 2) && !named.is_right(&[3, 4, 5], 9));
        let counted = view(told.into_iter().chain([Told::Count(3)])).unwrap();
        assert!(counted.is_right(&[1, 2, 3], 2));
        assert!(!counted.is_right(&[1, 2, 3], 3) && !counted.is_right(&[1, 2, 3, 4], 2));
        assert!(view([Told::Count(3), Told::State(vec![1])]).unwrap().is_right(&[1], 2));
        assert!(!View::default().is_right(&[], 2));
    }

    #[test]
    fn a_view_sees_what_is_wrong() {
        for wrong in [
            vec![Told::Join(1)],
            vec![Told::State(vec![1, 2, 1])],
            vec![Told::State(vec![1]), Told::Join(1)],
            vec![Told::State(vec![1]), Told::Leave(2)],
            vec![Told::State(vec![1]), Told::Update(2)],
            vec![Told::State(vec![1]), Told::Count(600), Told::Join(2)],
        ] {
            assert!(view(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
