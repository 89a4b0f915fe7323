//! [`Segments`]: bytes in the pieces that they came in, read as one buffer. What lies within one piece is handed out as a part
//! of it; only what lies across several is put together.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Shorter pieces are gathered: a message that comes byte by byte would cost thirty times its length in pieces, and each would
/// keep the buffer that it was read into (I11).
const SHORT_BYTES: usize = 1 << 10;

/// Pieces, in order. None of them is empty.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pieces: VecDeque<Bytes>,
    /// Short ones, behind the others.
    gathered: BytesMut,
    remaining: usize,
}

impl Segments {
    /// Adds `piece` at the end.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.remaining += piece.len();
        if piece.len() < SHORT_BYTES {
            self.gathered.extend_from_slice(&piece);
            return;
        }
        if !self.gathered.is_empty() {
            self.pieces.push_back(self.gathered.split().freeze());
        }
        self.pieces.push_back(piece);
    }
}

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        match self.pieces.front() {
            Some(front) => front,
            None => &self.gathered,
        }
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let Some(front) = self.pieces.front_mut() else {
                self.gathered.advance(left);
                break;
            };
            let part = left.min(front.len());
            front.advance(part);
            if front.is_empty() {
                self.pieces.pop_front();
            }
            left -= part;
        }
        self.remaining -= count;
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let within = match self.pieces.front_mut() {
            Some(front) if front.len() > length => front.split_to(length),
            Some(front) if front.len() == length => self.pieces.pop_front().unwrap_or_default(),
            None => self.gathered.split_to(length).freeze(),
            Some(_) => {
                let mut together = BytesMut::with_capacity(length);
                together.put(self.take(length));
                return together.freeze();
            }
        };
        self.remaining -= length;
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(pieces: &[&'static [u8]]) -> Segments {
        let mut segments = Segments::default();
        for piece in pieces {
            segments.push(Bytes::from_static(piece));
        }
        segments
    }

    #[test]
    fn what_lies_within_a_piece_is_not_copied() {
        let piece = Bytes::from(vec![7; SHORT_BYTES]);
        let mut segments = segments(&[b"head"]);
        segments.push(piece.clone());
        assert_eq!(segments.copy_to_bytes(4), "head");
        assert_eq!(segments.copy_to_bytes(40).as_ptr(), piece.as_ptr());
        let rest = segments.copy_to_bytes(SHORT_BYTES - 40);
        assert_eq!(rest.as_ptr(), piece[40..].as_ptr());
        assert!(!segments.has_remaining());
    }

    #[test]
    fn what_lies_across_pieces_is_put_together() {
        let long: &'static [u8] = &[b'x'; SHORT_BYTES];
        let mut segments = segments(&[b"ab", b"", long, b"c", b"def"]);
        assert_eq!(segments.remaining(), SHORT_BYTES + 6);
        segments.advance(1);
        assert_eq!(segments.copy_to_bytes(3), "bxx");
        segments.advance(SHORT_BYTES - 3);
        assert_eq!(segments.copy_to_bytes(3), "xcd");
        assert_eq!(segments.chunk(), b"ef");
        assert_eq!(segments.copy_to_bytes(2), "ef");
        assert_eq!(segments.copy_to_bytes(0), "");
        assert_eq!((segments.remaining(), segments.chunk().len()), (0, 0));
    }

    #[test]
    fn i11_bytes_that_come_one_by_one_are_no_pieces() {
        let mut segments = Segments::default();
        for byte in 0..200_000_u32 {
            segments.push(Bytes::copy_from_slice(&byte.to_le_bytes()[..1]));
        }
        assert!(segments.pieces.is_empty());
        assert_eq!(segments.copy_to_bytes(200_000)[257], 1);
    }

    #[test]
    fn numbers_may_lie_across_pieces() {
        let long: &'static [u8] = &[1; SHORT_BYTES];
        let mut segments = segments(&[&[0, 0, 1], long, &[9]]);
        assert_eq!(segments.get_u32(), 257);
        segments.advance(SHORT_BYTES - 1);
        assert_eq!(segments.get_u8(), 9);
    }
}
