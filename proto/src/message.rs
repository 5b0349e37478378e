//! Protobuf messages as bytes, for those who need not know how they are made.
use prost::Message;

/// Why bytes are no such message.
pub type BadMessage = prost::DecodeError;

/// Appends a message.
pub fn write(out: &mut Vec<u8>, message: &impl Message) {
    out.reserve(message.encoded_len());
    message.encode_raw(out);
}

/// How many bytes it takes.
pub fn len(message: &impl Message) -> usize {
    message.encoded_len()
}

/// Reads a message that takes all of the bytes. Fields that this build does not know are passed over.
pub fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, BadMessage> {
    M::decode(bytes)
}
