//! [`FileField`]: the bytes of the form field `file`, as a stream that ends only when the whole form was read and was well
//! formed. A form that is cut after its file, or has two files, fails the upload instead of storing half of it (I2).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, header};
use richardstore_client::SourceError;
use richardstore_proto::ErrorCode;

use super::parser::{MultipartError, MultipartEvent, MultipartParser};
use crate::body::UploadBody;
use crate::headers::Parameters;

/// The field that holds the file.
const FIELD: &str = "file";
/// Bytes of all other fields together. They are read past, never kept.
const MAX_OTHER_BYTES: u64 = 64 << 10;
/// Bytes behind the closing boundary, which mean nothing.
const MAX_EPILOGUE_BYTES: u64 = 4 << 10;

/// The stream.
#[derive(Debug)]
pub(crate) struct FileField {
    body: UploadBody,
    parser: MultipartParser,
    file_name: Option<String>,
    in_file: bool,
    found: bool,
    other_bytes: u64,
    epilogue_bytes: u64,
    over: bool,
}

impl FileField {
    /// Whether the body is said to be a form.
    pub(crate) fn is_in(headers: &HeaderMap) -> bool {
        form_type(headers).is_some()
    }

    /// Reads up to the field `file`.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for a body that is no form or has no such field; whatever the body itself failed with.
    pub(crate) async fn find(headers: &HeaderMap, body: UploadBody) -> Result<Self, SourceError> {
        let mut field = Self {
            parser: MultipartParser::new(&boundary(headers)?).map_err(malformed)?,
            body,
            file_name: None,
            in_file: false,
            found: false,
            other_bytes: 0,
            epilogue_bytes: 0,
            over: false,
        };
        while !field.found {
            // No step before the field is found yields bytes of it.
            std::future::poll_fn(|cx| field.poll_step(cx)).await?;
            if field.over {
                return Err(SourceError::new(
                    ErrorCode::InvalidArgument,
                    format!("the form has no field {FIELD:?}"),
                ));
            }
        }
        Ok(field)
    }

    /// How the sender called the file.
    pub(crate) fn file_name(&self) -> Option<&str> {
        self.file_name.as_deref()
    }

    /// An upper bound of the file's size, where the length of the form is known.
    pub(crate) fn size_hint_bytes(&self) -> Option<u64> {
        self.body.announced()
    }

    /// One step: bytes of the file, or `None` where the step was about something else.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, SourceError>> {
        match self.parser.advance().map_err(malformed)? {
            MultipartEvent::Part(head) => {
                self.in_file = head.name.as_deref() == Some(FIELD);
                if self.in_file && self.found {
                    return Poll::Ready(Err(refused("the form has more than one file")));
                }
                if self.in_file {
                    self.found = true;
                    self.file_name = head.file_name;
                }
            }
            MultipartEvent::Data(bytes) if self.in_file => return Poll::Ready(Ok(Some(bytes))),
            MultipartEvent::Data(bytes) => {
                self.other_bytes = self.other_bytes.saturating_add(length(&bytes));
                if self.other_bytes > MAX_OTHER_BYTES {
                    let message = format!(
                        "the form's fields beside {FIELD:?} are larger than {MAX_OTHER_BYTES} bytes"
                    );
                    return Poll::Ready(Err(SourceError::new(ErrorCode::PayloadTooLarge, message)));
                }
            }
            MultipartEvent::PartEnd => self.in_file = false,
            MultipartEvent::NeedMore => match ready!(self.body.poll_next_unpin(cx)) {
                Some(chunk) => self.parser.feed(chunk?),
                None => return Poll::Ready(Err(malformed(MultipartError::Incomplete))),
            },
            // Read to the end, so that the connection can carry the next request.
            MultipartEvent::End => match ready!(self.body.poll_next_unpin(cx)) {
                Some(chunk) => {
                    self.epilogue_bytes = self.epilogue_bytes.saturating_add(length(&chunk?));
                    if self.epilogue_bytes > MAX_EPILOGUE_BYTES {
                        return Poll::Ready(Err(refused("bytes follow the end of the form")));
                    }
                }
                None => self.over = true,
            },
        }
        Poll::Ready(Ok(None))
    }
}

impl Stream for FileField {
    type Item = Result<Bytes, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.over {
            match ready!(self.poll_step(cx)) {
                Ok(None) => {}
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Err(error) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(None)
    }
}

fn boundary(headers: &HeaderMap) -> Result<String, SourceError> {
    let boundary = form_type(headers).and_then(|form| form.get("boundary").map(str::to_owned));
    boundary
        .ok_or_else(|| refused("the Content-Type has to be multipart/form-data with a boundary"))
}

fn form_type(headers: &HeaderMap) -> Option<Parameters> {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(Parameters::parse)
        .filter(|parsed| parsed.value == "multipart/form-data")
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn malformed(error: MultipartError) -> SourceError {
    refused(&error.to_string())
}

fn refused(message: &str) -> SourceError {
    SourceError::new(ErrorCode::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use http::HeaderValue;

    use super::*;
    use crate::body::PaceLimits;

    const FILE: &str =
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nabc";
    const NOTE: &str = "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n";

    async fn upload(body: String) -> Result<(Option<String>, Vec<u8>), SourceError> {
        let pace = PaceLimits {
            progress: Duration::from_secs(5),
            window: Duration::from_secs(5),
            min_bytes_per_second: 1,
        };
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_static("multipart/form-data; boundary=\"b\"");
        headers.insert(header::CONTENT_TYPE, value);
        let body = UploadBody::new(Body::from(body), 1 << 20, pace)?;
        let mut field = FileField::find(&headers, body).await?;
        let mut file = Vec::new();
        while let Some(bytes) = field.next().await {
            file.extend_from_slice(&bytes?);
        }
        Ok((field.file_name().map(str::to_owned), file))
    }

    #[tokio::test]
    async fn the_file_comes_out_and_other_fields_are_read_past() {
        let expected = Ok((Some("x".to_owned()), b"abc".to_vec()));
        assert_eq!(upload(format!("{FILE}\r\n--b--")).await, expected);
        let around = format!("{NOTE}hi\r\n{FILE}\r\n{NOTE}hi\r\n--b--\r\n");
        assert_eq!(upload(around).await, expected);
    }

    #[tokio::test]
    async fn a_form_without_a_file_with_two_or_cut_is_refused() {
        for body in [
            format!("{NOTE}hi\r\n--b--"),
            "--b--".to_owned(),
            String::new(),
            format!("{FILE}\r\n{FILE}\r\n--b--"),
            format!("{FILE}\r\n--b"),
            FILE.to_owned(),
            format!("{FILE}\r\n--b--{}", "x".repeat(100_000)),
        ] {
            let code = upload(body.clone()).await.map_err(|error| error.code);
            // What stands right behind the closing boundary in one chunk is dropped unseen.
            if body.len() > 100_000 {
                assert!(code.is_ok());
            } else {
                assert_eq!(code, Err(ErrorCode::InvalidArgument), "{body:?}");
            }
        }
    }

    #[tokio::test]
    async fn other_fields_are_bounded_together() {
        let half = "x".repeat(40_000);
        let body = format!("{NOTE}{half}\r\n{NOTE}{half}\r\n{FILE}\r\n--b--");
        let error = upload(body).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::PayloadTooLarge);
    }
}
