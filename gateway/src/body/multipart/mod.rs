//! `multipart/form-data`, streamed.

mod file_field;
mod parser;
mod part_head;

pub(crate) use file_field::FileField;
