//! Family 7: goodbyes, which codes and reasons they may have, and that nothing is heard or said behind them.
use super::{Case, Chopped, Closed, Echo, FIN, Send, said};
use hearth_tests::raw::{CLOSE, PING, Raw, TEXT};

/// Codes that may be sent: defined, registered, or free for libraries and applications.
const ALLOWED: [u16; 17] =
    [1000, 1001, 1008, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3999, 4000, 4001, 4003, 4321, 4998, 4999];
/// Codes that may not: out of range, reserved, or only ever seen by a program itself.
const FORBIDDEN: [u16; 19] = [
    0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 5001, 9999, 10_000, 32_768,
    65_534, 65_535,
];

pub fn cases() -> Vec<Case> {
    let close = |code: u16, reason: &[u8]| Raw::frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat());
    let empty = || Raw::frame(FIN | CLOSE, b"");
    let ping = || Raw::frame(FIN | PING, b"still there?");
    let mut cases = vec![
        Case::new(
            "7 after an answer",
            vec![Send(said("1")), Echo("1".into()), Send(close(1000, b"")), Closed(1000)],
        ),
        Case::new(
            "7 right behind a command",
            vec![Send([said("1"), close(1000, b"")].concat()), Echo("1".into()), Closed(1000)],
        ),
        Case::new("7 twice", vec![Send([close(1000, b""), close(1001, b"")].concat()), Closed(1000)]),
        Case::new("7 then a ping", vec![Send([close(1000, b""), ping()].concat()), Closed(1000)]),
        Case::new("7 then a command", vec![Send([close(1000, b""), said("1")].concat()), Closed(1000)]),
        Case::new("7 then nonsense", vec![Send([close(1000, b""), vec![0xff; 50]].concat()), Closed(1000)]),
        Case::new(
            "7 in the middle of a message",
            vec![Send([Raw::frame(TEXT, b"{"), close(1000, b"")].concat()), Closed(1000)],
        ),
        Case::new("7 without a code", vec![Send(empty()), Closed(1005)]),
        Case::new("7 byte by byte", vec![Chopped(close(1000, b"goodbye"), 1), Closed(1000)]),
        Case::new("7 a code of one byte", vec![Send(Raw::frame(FIN | CLOSE, b"\x03")), Closed(1002)]),
        Case::new("7 with a reason", vec![Send(close(1000, b"goodbye")), Closed(1000)]),
        Case::new("7 with a reason in UTF-8", vec![Send(close(1000, "κόσμε".as_bytes())), Closed(1000)]),
        Case::new("7 with the longest reason", vec![Send(close(1000, &[b'x'; 123])), Closed(1000)]),
        Case::new("7 with a reason that is too long", vec![Send(close(1000, &[b'x'; 124])), Closed(1002)]),
        Case::new(
            "7 with a reason that is not UTF-8",
            vec![Send(close(1000, b"\xce\xba\xed\xa0\x80")), Closed(1007)],
        ),
        Case::new("7 with half a character", vec![Send(close(1000, b"\xc3")), Closed(1007)]),
        Case::new("7 a wrong code and a wrong reason", vec![Send(close(999, b"\xff")), Closed(1007)]),
    ];
    cases.extend(
        ALLOWED.map(|code| Case::new(format!("7 code {code}"), vec![Send(close(code, b"")), Closed(code)])),
    );
    // The server's own words for these have a reason; an echo has none.
    cases.extend(FORBIDDEN.into_iter().flat_map(|code| {
        let of = |reason: &[u8]| vec![Send(close(code, reason)), Closed(1002)];
        [
            Case::new(format!("7 code {code}"), of(b"")),
            Case::new(format!("7 code {code} with a reason"), of(b"x")),
        ]
    }));
    cases
}
