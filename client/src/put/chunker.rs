//! [`Chunker`]: cuts what a source yields into messages worth sending, without copying what is large already.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes of one message: large enough that its overhead does not show, small enough to be forwarded while it is in cache.
pub(crate) const MESSAGE_BYTES: usize = 256 << 10;
/// Pieces smaller than this are copied together; copying them costs less than sending each as a message.
const COPY_BELOW: usize = 64 << 10;

/// Pieces in, messages out, in the same order.
#[derive(Debug, Default)]
pub(crate) struct Chunker {
    small: BytesMut,
    ready: VecDeque<Bytes>,
}

impl Chunker {
    /// Takes the next piece of any size.
    pub(crate) fn push(&mut self, mut piece: Bytes) {
        if piece.len() >= COPY_BELOW {
            self.flush();
            while piece.len() >= COPY_BELOW {
                let message = piece.split_to(piece.len().min(MESSAGE_BYTES));
                self.ready.push_back(message);
            }
        }
        if self.small.len() + piece.len() > MESSAGE_BYTES {
            self.flush();
        }
        self.small.extend_from_slice(&piece);
    }

    /// The next message that is large enough, or was flushed.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// Whether pieces wait for others to go with them.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.small.is_empty()
    }

    /// Makes a message of what waits: the source has ended, or is slow.
    pub(crate) fn flush(&mut self) {
        if self.is_waiting() {
            self.ready.push_back(self.small.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(pieces: &[usize]) -> Vec<usize> {
        let mut chunker = Chunker::default();
        let mut sent = Vec::new();
        let mut expected = Vec::new();
        for (at, &length) in pieces.iter().enumerate() {
            let piece = vec![u8::try_from(at % 251).unwrap(); length];
            expected.extend_from_slice(&piece);
            chunker.push(piece.into());
        }
        chunker.flush();
        let mut sizes = Vec::new();
        while let Some(message) = chunker.pop() {
            sizes.push(message.len());
            sent.extend_from_slice(&message);
        }
        assert_eq!(sent, expected);
        sizes
    }

    #[test]
    fn tiny_pieces_go_together_and_huge_ones_are_cut() {
        assert_eq!(messages(&[1000; 600]), [262_000, 262_000, 76_000]);
        assert_eq!(messages(&[700 << 10]), [256 << 10, 256 << 10, 188 << 10]);
        assert_eq!(messages(&[10, 100 << 10, 20, 30]), [10, 100 << 10, 50]);
        assert_eq!(messages(&[257 << 10, 5]), [256 << 10, 1029]);
        assert_eq!(messages(&[]), [0usize; 0]);
    }

    #[test]
    fn a_large_piece_is_not_copied() {
        let piece = Bytes::from(vec![7; 300 << 10]);
        let mut chunker = Chunker::default();
        chunker.push(piece.clone());
        assert_eq!(chunker.pop().unwrap().as_ptr(), piece.as_ptr());
    }
}
