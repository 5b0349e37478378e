//! What people say to each other, made up by dice that fall alike in every run: mostly a few words, now and then a paragraph.
use serde_json::json;

/// The further in front, the more often said.
const WORDS: &str = "the you I to a it and is that of in ok yes me on for not what this so be we was have can just do are but \
    with no at like my if good know up get think now how lol thanks one time will when see there from all well about an or \
    he they out time really want your them some then more did sure here would going need right been day back work where \
    tomorrow meeting maybe something people anyone later today please sorry great sounds looking forward actually problem \
    version server deploy branch review release customer question answer weekend coffee lunch train late morning evening \
    photo link document ticket number update probably definitely understand remember together minutes yesterday";
const MARKS: [&str; 8] = ["!", "?", " 😀", " 👍", " :)", "...", " ❤️", "."];

/// One message: its id, and its data as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// As a client makes it: of random letters.
    pub id: String,
    /// A JSON object.
    pub data: String,
}

/// So many messages.
pub fn messages(count: u32) -> Vec<Message> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut dice = Dice(1);
    (0..count)
        .map(|_| {
            let id = format!("{:08x}{:08x}", dice.roll(u32::MAX), dice.roll(u32::MAX));
            // Of a hundred messages sixty are a few words, thirty a sentence or two, nine a paragraph, and one is pasted.
            let length = match dice.roll(100) {
                0..60 => 1 + dice.roll(8),
                60..90 => 9 + dice.roll(22),
                90..99 => 31 + dice.roll(90),
                _ => 121 + dice.roll(280),
            };
            let mut text = String::new();
            for _ in 0..length {
                if !text.is_empty() {
                    text.push(' ');
                }
                let behind = dice.roll(words.len() as u32).min(dice.roll(words.len() as u32));
                text.push_str(words[behind as usize]);
            }
            if dice.roll(2) == 0 {
                text.push_str(MARKS[dice.roll(MARKS.len() as u32) as usize]);
            }
            Message { id, data: json!({"content": text}).to_string() }
        })
        .collect()
}

/// Knuth's MMIX; its upper bits are the better ones.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * u64::from(sides)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_in_every_run() {
        assert_eq!(messages(100), messages(200)[..100]);
    }

    #[test]
    fn most_is_short_and_some_is_long() {
        let mut lengths: Vec<usize> = messages(10_000).iter().map(|message| message.data.len()).collect();
        lengths.sort_unstable();
        assert!((40..100).contains(&lengths[5_000]), "{}", lengths[5_000]);
        assert!(lengths[9_500] > 256 && lengths[9_999] > 1_000 && lengths[9_999] < 10_000);
    }
}
