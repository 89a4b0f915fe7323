//! [`MultipartParser`]: `multipart/form-data` as a machine without I/O. Memory is bounded whatever arrives: data is handed
//! out as slices of the chunks that came in, and a preamble, a head or a list of parts over its limit is an error.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use super::part_head::PartHead;

/// Parts of one body.
const MAX_PARTS: usize = 64;
/// Bytes of one part's headers.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// Bytes before the first boundary; RFC 2046 allows them, nobody sends them.
const MAX_PREAMBLE_BYTES: usize = 1 << 10;
/// Blanks that may follow a boundary on its line.
const MAX_PADDING_BYTES: usize = 64;
/// RFC 2046.
const MAX_BOUNDARY_BYTES: usize = 70;

/// Why a body is no `multipart/form-data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MultipartError {
    /// The boundary of the `Content-Type` is missing, empty or too long.
    #[error("the boundary of the multipart body is missing or has not 1 to 70 characters")]
    Boundary,
    /// No boundary at the start.
    #[error("the multipart body does not start with its boundary")]
    Preamble,
    /// Something else than a line end or `--` behind a boundary.
    #[error("a boundary of the multipart body is not followed by a line end")]
    AfterBoundary,
    /// Headers of a part without an end.
    #[error("the headers of a part are longer than {MAX_HEAD_BYTES} bytes")]
    HeadTooLong,
    /// Headers of a part that make no sense.
    #[error("the headers of a part cannot be read")]
    Head,
    /// Too many parts.
    #[error("the multipart body has more than {MAX_PARTS} parts")]
    TooManyParts,
    /// The body ended before its closing boundary.
    #[error("the multipart body ends before its closing boundary")]
    Incomplete,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MultipartEvent {
    /// A part starts.
    Part(PartHead),
    /// Bytes of the part that started last; never empty.
    Data(Bytes),
    /// That part is complete.
    PartEnd,
    /// The closing boundary was seen: whatever follows means nothing.
    End,
    /// Feed the next chunk.
    NeedMore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preamble,
    AfterBoundary,
    Head,
    Data,
    End,
}

/// The machine. Call [`MultipartParser::advance`] until it wants more, then [`MultipartParser::feed`].
#[derive(Debug)]
pub(crate) struct MultipartParser {
    /// Line end, two dashes and the boundary.
    delimiter: Finder<'static>,
    stage: Stage,
    buffer: Bytes,
    parts: usize,
    discarded: usize,
}

impl MultipartParser {
    /// A parser for the boundary that the `Content-Type` names.
    pub(crate) fn new(boundary: &str) -> Result<Self, MultipartError> {
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES {
            return Err(MultipartError::Boundary);
        }
        let delimiter = format!("\r\n--{boundary}");
        Ok(Self {
            delimiter: Finder::new(delimiter.as_bytes()).into_owned(),
            stage: Stage::Preamble,
            // The first boundary needs no line end before it; with one put there it looks like all the others.
            buffer: Bytes::from_static(b"\r\n"),
            parts: 0,
            discarded: 0,
        })
    }

    /// Adds the next chunk of the body. What was left of the one before is at most a head or part of a boundary.
    pub(crate) fn feed(&mut self, chunk: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.buffer.len() + chunk.len());
            joined.extend_from_slice(&self.buffer);
            joined.extend_from_slice(&chunk);
            self.buffer = joined.freeze();
        }
    }

    /// The next event of what was fed.
    pub(crate) fn advance(&mut self) -> Result<MultipartEvent, MultipartError> {
        loop {
            match self.stage {
                Stage::Preamble => {
                    if !self.skip_to_boundary()? {
                        return Ok(MultipartEvent::NeedMore);
                    }
                    self.stage = Stage::AfterBoundary;
                }
                Stage::AfterBoundary => match self.after_boundary()? {
                    Some(stage) => self.stage = stage,
                    None => return Ok(MultipartEvent::NeedMore),
                },
                Stage::Head => return self.head(),
                Stage::Data => return Ok(self.data()),
                Stage::End => return Ok(MultipartEvent::End),
            }
        }
    }

    fn skip_to_boundary(&mut self) -> Result<bool, MultipartError> {
        let found = self.delimiter.find(&self.buffer);
        let skipped = found.unwrap_or(self.buffer.len() - self.possible_delimiter());
        self.discarded += skipped;
        if self.discarded > MAX_PREAMBLE_BYTES {
            return Err(MultipartError::Preamble);
        }
        let taken = match found {
            Some(at) => at + self.delimiter.needle().len(),
            None => skipped,
        };
        drop(self.buffer.split_to(taken));
        Ok(found.is_some())
    }

    fn after_boundary(&mut self) -> Result<Option<Stage>, MultipartError> {
        if self.buffer.starts_with(b"--") {
            self.buffer = Bytes::new();
            return Ok(Some(Stage::End));
        }
        let padding = self
            .buffer
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        if padding > MAX_PADDING_BYTES {
            return Err(MultipartError::AfterBoundary);
        }
        let rest = &self.buffer[padding..];
        if rest.starts_with(b"\r\n") {
            if self.parts == MAX_PARTS {
                return Err(MultipartError::TooManyParts);
            }
            self.parts += 1;
            // The line end stays: the end of the head is then the same four bytes with and without headers.
            drop(self.buffer.split_to(padding));
            return Ok(Some(Stage::Head));
        }
        if rest.is_empty() || rest == b"\r" || (padding == 0 && rest == b"-") {
            return Ok(None);
        }
        Err(MultipartError::AfterBoundary)
    }

    fn head(&mut self) -> Result<MultipartEvent, MultipartError> {
        let window = &self.buffer[..self.buffer.len().min(MAX_HEAD_BYTES)];
        let Some(end) = memchr::memmem::find(window, b"\r\n\r\n") else {
            if self.buffer.len() >= MAX_HEAD_BYTES {
                return Err(MultipartError::HeadTooLong);
            }
            return Ok(MultipartEvent::NeedMore);
        };
        let head = PartHead::parse(&self.buffer[..end]).ok_or(MultipartError::Head)?;
        drop(self.buffer.split_to(end + b"\r\n\r\n".len()));
        self.stage = Stage::Data;
        Ok(MultipartEvent::Part(head))
    }

    fn data(&mut self) -> MultipartEvent {
        match self.delimiter.find(&self.buffer) {
            Some(0) => {
                drop(self.buffer.split_to(self.delimiter.needle().len()));
                self.stage = Stage::AfterBoundary;
                MultipartEvent::PartEnd
            }
            Some(at) => MultipartEvent::Data(self.buffer.split_to(at)),
            None => {
                let ready = self.buffer.len() - self.possible_delimiter();
                if ready == 0 {
                    MultipartEvent::NeedMore
                } else {
                    MultipartEvent::Data(self.buffer.split_to(ready))
                }
            }
        }
    }

    /// Bytes at the end of the buffer that may be the start of a delimiter.
    fn possible_delimiter(&self) -> usize {
        let needle = self.delimiter.needle();
        let most = self.buffer.len().min(needle.len() - 1);
        (1..=most)
            .rev()
            .find(|&length| needle.starts_with(&self.buffer[self.buffer.len() - length..]))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};
    use richardstore_fuzz::fuzz;

    const BODY: &str = "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhi\r\n--b \t\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n\r\n--not\r\n\r\n--b--\r\nepilogue";

    type Parts = Vec<(Option<String>, Vec<u8>)>;

    /// Feeds `chunks` and collects the parts.
    fn parse<'a>(
        boundary: &str,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Parts, MultipartError> {
        let mut parser = MultipartParser::new(boundary)?;
        let mut parts = Parts::new();
        for chunk in chunks {
            parser.feed(Bytes::copy_from_slice(chunk));
            loop {
                match parser.advance()? {
                    MultipartEvent::Part(head) => parts.push((head.name, Vec::new())),
                    MultipartEvent::Data(data) => {
                        assert!(!data.is_empty());
                        parts.last_mut().unwrap().1.extend_from_slice(&data);
                    }
                    MultipartEvent::PartEnd => {}
                    MultipartEvent::NeedMore => break,
                    MultipartEvent::End => return Ok(parts),
                }
            }
        }
        Err(MultipartError::Incomplete)
    }

    fn part(name: &str, data: &[u8]) -> (Option<String>, Vec<u8>) {
        (Some(name.to_owned()), data.to_vec())
    }

    #[test]
    fn parts_come_out_as_they_went_in() {
        let parts = parse("b", [BODY.as_bytes()]).unwrap();
        assert_eq!(parts, [part("note", b"hi"), part("file", b"\r\n--not\r\n")]);
    }

    #[test]
    fn an_empty_part_is_a_part() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n\r\n--b--";
        assert_eq!(parse("b", [body.as_bytes()]).unwrap(), [part("file", b"")]);
        assert_eq!(
            parse("b", [&b"--b\r\n\r\nx\r\n--b--"[..]]).unwrap(),
            [(None, b"x".to_vec())]
        );
        assert_eq!(parse("b", [&b"--b--\r\n"[..]]).unwrap(), []);
    }

    #[test]
    fn a_body_without_its_closing_boundary_is_incomplete() {
        let closing = BODY.len() - "--\r\nepilogue".len();
        for end in 0..=closing {
            let cut = parse("b", [&BODY.as_bytes()[..end]]);
            assert_eq!(cut, Err(MultipartError::Incomplete), "cut at {end}");
        }
    }

    #[test]
    fn nothing_grows_without_a_limit() {
        let endless_head = format!("--b\r\nX: {}", "x".repeat(2 * MAX_HEAD_BYTES));
        let tiny_parts = "--b\r\n\r\nx\r\n".repeat(MAX_PARTS + 1);
        let preamble = "x".repeat(2 * MAX_PREAMBLE_BYTES);
        let padding = format!("--b{}", " ".repeat(2 * MAX_PADDING_BYTES));
        for (body, error) in [
            (endless_head, MultipartError::HeadTooLong),
            (tiny_parts, MultipartError::TooManyParts),
            (preamble, MultipartError::Preamble),
            (padding, MultipartError::AfterBoundary),
            ("--bx\r\n".to_owned(), MultipartError::AfterBoundary),
        ] {
            assert_eq!(parse("b", [body.as_bytes()]), Err(error));
            assert_eq!(parse("b", body.as_bytes().chunks(1)), Err(error));
        }
        assert_eq!(parse("", []), Err(MultipartError::Boundary));
        assert_eq!(parse(&"b".repeat(71), []), Err(MultipartError::Boundary));
    }

    #[test]
    fn data_without_a_line_end_is_handed_out_without_a_copy() {
        let mut parser = MultipartParser::new("b").unwrap();
        parser.feed(Bytes::from_static(b"--b\r\n\r\n"));
        assert!(matches!(parser.advance(), Ok(MultipartEvent::Part(_))));
        assert_eq!(parser.advance(), Ok(MultipartEvent::NeedMore));
        let chunk = Bytes::from(vec![7u8; 100_000]);
        let start = chunk.as_ptr();
        parser.feed(chunk);
        let Ok(MultipartEvent::Data(data)) = parser.advance() else {
            panic!("no data");
        };
        assert_eq!((data.as_ptr(), data.len()), (start, 100_000));
    }

    /// The same language, read in the simplest way: with all of the body at hand. `None` is an error of any kind.
    fn reference(boundary: &str, body: &[u8]) -> Option<Parts> {
        fn find(text: &[u8], word: &[u8]) -> Option<usize> {
            text.windows(word.len()).position(|window| window == word)
        }
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        let body = [b"\r\n", body].concat();
        let start = find(&body, &delimiter).filter(|at| *at <= MAX_PREAMBLE_BYTES)?;
        let mut rest = &body[start + delimiter.len()..];
        let mut parts = Parts::new();
        loop {
            if rest.starts_with(b"--") {
                return Some(parts);
            }
            let blanks = rest.iter().take_while(|byte| b" \t".contains(byte)).count();
            rest = &rest[blanks..];
            if blanks > MAX_PADDING_BYTES || !rest.starts_with(b"\r\n") || parts.len() == MAX_PARTS
            {
                return None;
            }
            let head = find(rest, b"\r\n\r\n").filter(|at| *at + 4 <= MAX_HEAD_BYTES)?;
            let name = PartHead::parse(&rest[..head])?.name;
            rest = &rest[head + 4..];
            let end = find(rest, &delimiter)?;
            parts.push((name, rest[..end].to_vec()));
            rest = &rest[end + delimiter.len()..];
        }
    }

    #[test]
    fn any_body_in_any_chunks_is_read_as_the_reference_reads_it() {
        let words: Vec<&[u8]> = vec![
            b"\r\n",
            b"--b",
            b"\r\n--b",
            b"\r\n--b\r\n",
            b"--b--",
            b"--",
            b"-",
            b"\r",
            b"\n",
            b" ",
            b"\t",
            b"x",
            b"\r\n\r\n",
            b":",
            b"Content-Disposition: form-data; name=\"file\"\r\n\r\n",
            b"\r\n--bx",
            b"\xff",
            b"b",
        ];
        let body = prop::collection::vec(prop::sample::select(words), 0..24);
        let cases = (
            body,
            any::<bool>(),
            prop::collection::vec(1_usize..20, 1..12),
        );
        fuzz(
            "forms against a reference",
            6_000,
            &cases,
            |(words, begun, cuts)| {
                let mut body = words.concat();
                if begun {
                    body.splice(0..0, b"--b\r\n".iter().copied());
                }
                let mut chunks = Vec::new();
                let mut rest = &body[..];
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                    chunks.push(chunk);
                    rest = after;
                }
                assert_eq!(parse("b", chunks).ok(), reference("b", &body), "{body:?}");
            },
        );
    }

    proptest! {
        #[test]
        fn chunk_borders_make_no_difference(
            data in prop::collection::vec(prop::sample::select(b"\r\n-bx".to_vec()), 0..200),
            cuts in prop::collection::vec(1usize..9, 1..100),
        ) {
            let mut body = b"--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n".to_vec();
            body.extend_from_slice(&data);
            body.extend_from_slice(b"\r\n--b--\r\n");
            let mut chunks = Vec::new();
            let mut rest = &body[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            assert_eq!(parse("b", chunks), parse("b", [&body[..]]));
        }

        #[test]
        fn no_body_makes_it_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let _ = parse("b", chunks.iter().map(Vec::as_slice));
        }
    }
}
