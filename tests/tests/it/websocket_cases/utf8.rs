//! Family 6: a text is UTF-8, wherever it is cut, and what is not is refused when the frame with it has come.
use super::{Case, Chopped, Closed, Echo, FIN, Send, parts};
use hearth_tests::raw::{CONTINUATION, Raw, TEXT};

/// First and last of each length, the ends of planes, marks that stand alone, what is no character and yet allowed.
const VALID: [&str; 24] = [
    "κόσμε",
    "Hello-µ@ßöäüàá-UTF-8!!",
    "\u{7f}",
    "\u{80}",
    "\u{7ff}",
    "\u{800}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{feff}",
    "\u{10000}",
    "\u{1fffe}",
    "\u{1ffff}",
    "\u{2fffe}",
    "\u{3ffff}",
    "\u{7fffe}",
    "\u{8ffff}",
    "\u{ffffe}",
    "\u{fffff}",
    "\u{10fffe}",
    "\u{10ffff}",
    "e\u{301}\u{302}\u{200d}👩\u{200d}🚀",
];

/// Markus Kuhn's table: what a decoder must not take.
const INVALID: [&[u8]; 40] = [
    // Continuations alone.
    b"\x80",
    b"\xbf",
    b"\x80\xbf",
    b"\x80\xbf\x80\xbf\x80\xbf",
    // Beginnings alone.
    b"\xc3 ",
    b"\xe1 ",
    b"\xf1 ",
    b"\xc3\xc3",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    // The last continuation is missing.
    b"\xc3",
    b"\xe0\xa0",
    b"\xe1\xbd",
    b"\xf0\x90\x80",
    b"\xf4\x8f\xbf",
    b"\xe1\xbd\xf1\x80",
    // Bytes that never occur.
    b"\xc0",
    b"\xc1",
    b"\xf5",
    b"\xfe",
    b"\xff",
    b"\xfe\xfe\xff\xff",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    // Longer than need be.
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xf8\x80\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xc0\x80",
    b"\xe0\x80\x80",
    // Halves of a pair, alone and together.
    b"\xed\xa0\x80",
    b"\xed\xad\xbf",
    b"\xed\xae\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xed\xaf\xbf\xed\xbf\xbf",
    // Beyond the last.
    b"\xf4\x90\x80\x80",
    b"\xf7\xbf\xbf\xbf",
];

pub fn cases() -> Vec<Case> {
    VALID.into_iter().flat_map(valid).chain(INVALID.into_iter().flat_map(invalid)).chain(at_once()).collect()
}

fn text(id: &[u8]) -> Vec<u8> {
    [br#"{"type":"ping","id":""#, id, br#""}"#].concat()
}

/// Whole, byte by byte, and in fragments that are cut before every byte.
fn valid(id: &str) -> Vec<Case> {
    let text = text(id.as_bytes());
    let whole = Raw::frame(FIN | TEXT, &text);
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    let echo = || Echo(id.into());
    let shown = id.escape_unicode();
    vec![
        Case::new(format!("6 {shown}"), vec![Send(whole.clone()), echo()]),
        Case::new(format!("6 {shown} in pieces"), vec![Chopped(whole, 1), echo()]),
        Case::new(format!("6 {shown} in fragments"), vec![Send(parts(TEXT, &bytes).concat()), echo()]),
    ]
}

fn invalid(id: &[u8]) -> Vec<Case> {
    let text = text(id);
    let whole = Raw::frame(FIN | TEXT, &text);
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    let shown = id.escape_ascii();
    vec![
        Case::new(format!("6 {shown}"), vec![Send(whole.clone()), Closed(1007)]),
        Case::new(format!("6 {shown} in pieces"), vec![Chopped(whole, 1), Closed(1007)]),
        Case::new(format!("6 {shown} in fragments"), vec![Send(parts(TEXT, &bytes).concat()), Closed(1007)]),
        // Cut off: nothing comes behind it.
        Case::new(format!("6 {shown} at the end"), vec![Send(Raw::frame(FIN | TEXT, id)), Closed(1007)]),
    ]
}

/// What can be no text any more is not awaited to its end.
fn at_once() -> Vec<Case> {
    let first = || Send(Raw::frame(TEXT, "κόσμε".as_bytes()));
    [&b"\xf4\x90\x80\x80"[..], b"\xed\xa0\x80", b"\xff", b"\xc3("]
        .into_iter()
        .flat_map(|wrong| {
            let shown = wrong.escape_ascii();
            let more = Send(Raw::frame(CONTINUATION, wrong));
            // Of a character that is cut, only the second part shows what is wrong.
            let (front, back) = wrong.split_at(1);
            let halves = [front, back].map(|half| Send(Raw::frame(CONTINUATION, half)));
            [
                Case::new(
                    format!("6 {shown} in the second of three fragments"),
                    vec![first(), more, Closed(1007)],
                ),
                Case::new(
                    format!("6 {shown} in two of four fragments"),
                    [first()].into_iter().chain(halves).chain([Closed(1007)]).collect(),
                ),
            ]
        })
        .collect()
}
