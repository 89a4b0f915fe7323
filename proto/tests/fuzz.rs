//! Whatever comes from the wire becomes a domain value or an error: never a panic (FAULTS 45).

use prost::Message;
use richardstore_fuzz::{fuzz, hash_like, message, mutated_of};
use richardstore_proto::{
    Allocation, Blake3Root, ClusterId, Command, ContentHash, DataNodeInfo, Event, EventKind,
    FileInfo, FileLocations, JournalEvent, MetadataCopy, NodeFailure, NodeId, NodeState,
    PipelineResult, RememberedDelete, ReplicaEntry, StoreError, WriteTrailer, wire,
};

/// Takes the bytes for each of the messages, and what they say for the value it stands for.
macro_rules! convert {
    ($bytes:ident: $($message:ty => $value:ty),+ $(,)?) => {
        $(if let Ok(message) = <$message>::decode(&$bytes[..]) {
            let _ = <$value>::try_from(message);
        })+
    };
}

fn convert_all(bytes: &[u8]) {
    convert!(bytes:
        wire::FileInfo => FileInfo,
        wire::StreamInfo => FileLocations,
        wire::Allocation => Allocation,
        wire::WriteTrailer => WriteTrailer,
        wire::NodeFailure => NodeFailure,
        wire::WriteFileResult => PipelineResult,
        wire::DataNodeInfo => DataNodeInfo,
        wire::Event => Event,
        wire::ReplicaEntry => ReplicaEntry,
        wire::RememberedDelete => RememberedDelete,
        wire::MetadataCopy => MetadataCopy,
        wire::JournalEvent => JournalEvent,
        wire::Command => Command,
    );
    for number in bytes.chunks_exact(4) {
        let number = i32::from_le_bytes([number[0], number[1], number[2], number[3]]);
        let _ = wire::NodeState::try_from(number).map(NodeState::try_from);
        let _ = wire::EventKind::try_from(number).map(EventKind::try_from);
    }
    let _ = NodeId::try_from(bytes);
    let _ = ContentHash::try_from(bytes);
    let _ = Blake3Root::try_from(bytes);
    // Errors travel in the details of a status.
    let status = tonic::Status::with_details(tonic::Code::Internal, "x", bytes.to_vec().into());
    let _ = StoreError::from(status);
}

#[test]
fn no_message_from_the_wire_makes_the_domain_panic() {
    fuzz("messages from the wire", 2_000, &message(), |bytes| {
        convert_all(&bytes)
    });
    let mutated = mutated_of(message());
    fuzz("mutated messages from the wire", 2_000, &mutated, |bytes| {
        convert_all(&bytes)
    });
}

#[test]
fn a_text_is_a_hash_exactly_where_it_is_64_lower_case_digits() {
    fuzz("texts for a hash", 4_000, &hash_like(), |text| {
        let is_hash = text.len() == 64
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let parsed = text.parse::<ContentHash>();
        assert_eq!(parsed.is_ok(), is_hash, "{text:?}");
        assert_eq!(text.parse::<Blake3Root>().is_ok(), is_hash);
        if let Ok(hash) = parsed {
            // What a path is made of has no other characters.
            assert_eq!(hash.to_string(), text);
        }
        let _ = text.parse::<NodeId>();
        let _ = text.parse::<ClusterId>();
    });
}
