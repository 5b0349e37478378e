//! The link's codec: what goes out is already encoded, entry by entry, and is only put together here. What comes in is decoded as usual.
use bytes::{BufMut, Bytes};
use hearth_proto::v1;
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstCodec;

/// Entries of one `AttachResponse`.
pub struct Entries(pub(super) Vec<Bytes>);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AttachCodec;

impl Codec for AttachCodec {
    type Encode = Entries;
    type Decode = v1::AttachRequest;
    type Encoder = EntriesEncoder;
    type Decoder = <ProstCodec<v1::AttachResponse, v1::AttachRequest> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        EntriesEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<v1::AttachResponse, v1::AttachRequest>::default().decoder()
    }
}

pub struct EntriesEncoder;

impl Encoder for EntriesEncoder {
    type Item = Entries;
    type Error = Status;

    fn encode(&mut self, entries: Entries, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        entries.0.into_iter().for_each(|entry| out.put(entry));
        Ok(())
    }
}
