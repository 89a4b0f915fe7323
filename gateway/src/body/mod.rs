//! Bodies on their way in and out: bounded, paced, never held whole.

mod exact_body;
mod multipart;
mod observed_body;
mod pace;
mod upload_body;

pub(crate) use exact_body::ExactBody;
pub(crate) use multipart::FileField;
pub(crate) use observed_body::ObservedBody;
pub(crate) use pace::PaceLimits;
pub(crate) use upload_body::UploadBody;
