//! Sets that come, change and fail, and those who wait for them.
use super::*;
use futures_util::FutureExt;

const EC: &[u8] = br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fn one() -> (Arc<KeySets>, Instant) {
    let now = Instant::now();
    (Arc::new(KeySets::new(1, now)), now)
}

fn set(sets: &KeySets) -> &KeySet {
    sets.iter().next().unwrap()
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_is_known_stays_until_something_else_comes() {
    let (sets, now) = one();
    assert!(!sets.have_come() && sets.keys().is_empty());
    set(&sets).begin(now);
    assert!(sets.fetched(set(&sets), EC, None, now, 0.0).unwrap());
    assert!(!sets.fetched(set(&sets), EC, None, now, 0.0).unwrap(), "the same again");
    for bad in [&b"<html>"[..], b"", b"{}", br#"{"keys":[]}"#, br#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#]
    {
        assert!(sets.fetched(set(&sets), bad, None, now, 0.0).is_err());
    }
    sets.failed(set(&sets), now, 0.0);
    assert_eq!(sets.keys()[0].len(), 1);
    assert!(sets.have_come());
}

#[test]
fn who_looks_for_a_key_waits_for_a_fetch_that_begins_then() {
    let (sets, start) = one();
    set(&sets).begin(start);
    sets.fetched(set(&sets), EC, None, start, 0.0).unwrap();
    let now = start + s(20);
    let mut search = sets.search(now).unwrap();
    assert_eq!(set(&sets).due(), now, "it is fetched at once");
    assert_eq!(search.verdict(now), None);
    assert!(search.news().now_or_never().is_none());
    set(&sets).begin(now);
    sets.fetched(set(&sets), EC, None, now, 0.0).unwrap();
    assert!(search.news().now_or_never().is_some());
    assert_eq!(search.verdict(now), Some(BadToken::UnknownKey), "it is in no set");
    assert_eq!(
        sets.search(now).unwrap_err(),
        BadToken::UnknownKey,
        "and is not looked for again for a while"
    );
}

#[test]
fn who_waits_in_vain_is_told_that_it_is_not_the_tokens_fault() {
    let (sets, start) = one();
    let search = sets.search(start).unwrap();
    assert_eq!(search.verdict(start + s(1)), None);
    assert_eq!(search.verdict(start + PATIENCE), Some(BadToken::KeysAway), "nobody has answered");
    set(&sets).begin(start);
    sets.failed(set(&sets), start, 1.0);
    assert_eq!(search.verdict(start), Some(BadToken::KeysAway));
    set(&sets).begin(start + s(1));
    sets.failed(set(&sets), start + s(1), 1.0);
    let hasty = sets.search(start + s(1)).map(drop);
    assert_eq!(hasty, Err(BadToken::KeysAway), "the next fetch comes too late to wait for");
    set(&sets).begin(start + s(3));
    sets.fetched(set(&sets), EC, None, start + s(3), 0.0).unwrap();
    set(&sets).begin(start + s(63));
    sets.failed(set(&sets), start + s(63), 1.0);
    let now = start + s(64);
    let late = sets.search(now).unwrap();
    set(&sets).begin(now);
    sets.failed(set(&sets), now, 1.0);
    assert_eq!(late.verdict(now), Some(BadToken::KeysAway), "what cannot be found out nobody knows");
}

#[test]
fn only_so_many_wait() {
    let (sets, start) = one();
    let waiting: Vec<Search> = (0..SEARCHES_MAX).map(|_| sets.search(start).unwrap()).collect();
    assert!(sets.search(start).is_err());
    drop(waiting);
    assert!(sets.search(start).is_ok());
}
