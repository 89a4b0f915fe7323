//! What single header fields mean. Pure: text in, decision out.

mod attachment;
mod byte_range;
mod entity_tag;
mod parameters;
mod request_id;

pub(crate) use attachment::{attachment, safe_name};
pub(crate) use byte_range::{ByteRange, RangeAnswer};
pub(crate) use entity_tag::EntityTag;
pub(crate) use parameters::Parameters;
pub(crate) use request_id::RequestId;
