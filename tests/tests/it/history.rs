//! Reading what was said.
use hearth_tests::{client::Client, grpc, process::Hearth};
use serde_json::{Value, json};

/// Ten events, of which the last eight are kept.
async fn ten_events() -> (Hearth, Client) {
    let hearth = Hearth::serve(&["--history-size", "8"]).await;
    let mut ann = Client::connect(hearth.http(), "/ws?user=ann").await;
    for n in 1..=10 {
        ann.publish("general", &format!("m{n}")).await;
    }
    (hearth, ann)
}

fn seqs(page: &Value) -> Vec<u64> {
    page["data"]["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["seq"].as_u64().unwrap())
        .collect()
}

/// Both ends are exclusive, pages ascend, and `more` speaks of the direction that was asked; by gRPC alike.
#[tokio::test]
async fn pages_of_history() {
    let (hearth, mut ann) = ten_events().await;
    let mut rooms = grpc::rooms(hearth.grpc()).await;
    let rows: &[(Value, &[u64], bool)] = &[
        (json!({}), &[3, 4, 5, 6, 7, 8, 9, 10], false),
        (json!({"limit": 8}), &[3, 4, 5, 6, 7, 8, 9, 10], false),
        (json!({"limit": 3}), &[8, 9, 10], true),
        (json!({"limit": 1000}), &[3, 4, 5, 6, 7, 8, 9, 10], false),
        (json!({"after": 7}), &[8, 9, 10], false),
        (json!({"after": 7, "limit": 2}), &[8, 9], true),
        (json!({"after": 7, "limit": 3}), &[8, 9, 10], false),
        (json!({"after": 10}), &[], false),
        (json!({"after": 99}), &[], false),
        (json!({"after": 0, "limit": 2}), &[3, 4], true),
        (json!({"before": 6}), &[3, 4, 5], false),
        (json!({"before": 6, "limit": 2}), &[4, 5], true),
        (json!({"before": 3}), &[], false),
        (json!({"before": 0}), &[], false),
        (json!({"before": 99, "limit": 2}), &[9, 10], true),
        (json!({"after": 4, "before": 8}), &[5, 6, 7], false),
        (json!({"after": 4, "before": 8, "limit": 2}), &[5, 6], true),
        (json!({"after": 4, "before": 5}), &[], false),
        (json!({"after": 8, "before": 4}), &[], false),
    ];
    for (data, expected, more) in rows {
        let page = ann.ask(json!({"type": "history", "id": "h", "room": "general", "data": data})).await;
        assert_eq!((page["type"].as_str(), seqs(&page).as_slice()), (Some("history"), *expected), "{data}");
        assert_eq!((&page["data"]["more"], &page["data"]["seq"]), (&json!(more), &json!(10)), "{data}");
        let request = hearth_proto::v1::ListMessagesRequest {
            room: "general".into(),
            after: data["after"].as_u64(),
            before: data["before"].as_u64(),
            limit: data["limit"].as_u64().map(|limit| limit as u32),
        };
        let page = rooms.list_messages(request).await.unwrap().into_inner();
        let found: Vec<u64> = page.messages.iter().map(|event| event.seq).collect();
        assert_eq!((found.as_slice(), page.more), (*expected, *more), "{data} by gRPC");
    }
}

/// What history gives is what was heard live, field for field.
#[tokio::test]
async fn history_repeats_the_envelopes_as_they_were() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, joined) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    ann.send_text(r#"{"type":"text","id":"a","room":"general","data":{"n":1}}"#).await;
    ann.send_text(r#"{"type":"text","room":"general","data":{"n":2}}"#).await;
    let live: Vec<Value> = ann.until(|frame| frame["data"]["n"] == 2).await;
    let live: Vec<Value> = live.into_iter().filter(|frame| frame["type"] == "text").collect();
    let page = ann.ask(json!({"type": "history", "id": "h", "room": "general"})).await;
    assert_eq!(page["data"]["messages"], json!(live));
    assert_eq!((&page["data"]["epoch"], &page["room"]), (&joined["epoch"], &json!("general")));
    let empty = ann.ask(json!({"type": "history", "id": "h", "room": "nobody.was.here"})).await;
    assert_eq!((&empty["data"]["messages"], &empty["data"]["more"]), (&json!([]), &json!(false)));
}

/// A newcomer asks for the newest few with its join.
#[tokio::test]
async fn a_join_may_bring_the_newest() {
    let (hearth, mut ann) = ten_events().await;
    let joined = ann.join("general", json!({"history": 3})).await;
    assert_eq!((&joined["seq"], &joined["replayed"], joined.get("recovered")), (&json!(10), &json!(3), None));
    for seq in 8..=10 {
        assert_eq!(ann.next().await["seq"], seq);
    }
    let mut ben = Client::connect(hearth.http(), "/ws?user=ben").await;
    assert_eq!(ben.join("general", json!({"history": 1000})).await["replayed"], 8);
    // Where there is `since`, it decides.
    let since = json!({"epoch": joined["epoch"], "seq": 9});
    let mut cyd = Client::connect(hearth.http(), "/ws?user=cyd").await;
    let joined = cyd.join("general", json!({"history": 5, "since": since})).await;
    assert_eq!((&joined["replayed"], &joined["recovered"]), (&json!(1), &json!(true)));
}
