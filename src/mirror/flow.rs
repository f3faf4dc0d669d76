//! The records of one file's content on their way to the standby, while the file is still being read.
//!
//! Where the content is the former one, nothing is sent until it is known that the name must be sent at all: a name
//! that was only renamed costs one record. Sums of the standby's pages are asked for as they are needed and come while
//! the reading goes on; what must follow them waits here.

use std::collections::VecDeque;
use std::io;

use super::channel::{Incoming, Outgoing};
use super::chunk::Piece;
use super::entry::{Chunk, Entry, Hash};
use super::hints::Recent;
use super::index::Reader;
use super::index_writer::{WORTH, Writer};
use super::message::{Message, PAGE, StageName, pages, stage_name, sum};
use super::row::Row;
use super::sender::{next, unexpected};

/// Stretches in one question for sums.
const TOGETHER: usize = 16;

/// Bytes of content that may wait for sums.
const WAITING: usize = 1 << 20;

/// What the standby has that the file is compared with.
pub(super) struct Past {
    /// Its name over there.
    pub(super) from: Vec<u8>,
    /// What it is.
    pub(super) row: Row,
}

/// Chunks that lie side by side in a file of the standby's.
#[derive(Clone)]
struct Run {
    key: Vec<u8>,
    number: u64,
    count: u64,
    offset: u64,
}

/// A record that has its turn when all before it have gone.
enum Waiting {
    Run(Run),
    Hole(u64),
    Staged {
        old: bool,
        name: StageName,
        offset: u64,
        len: u64,
        hash: Hash,
    },
    Literal(Vec<u8>),
    /// Content over former content at the same place, of which the sums have been asked for.
    Over {
        begin: u64,
        hash: Hash,
        data: Vec<u8>,
    },
}

/// What the content goes through: the cycle's, lent for one file.
pub(super) struct Ways<'a> {
    /// The standby's cut.
    pub(super) base: &'a Reader,
    pub(super) outgoing: &'a mut Outgoing,
    pub(super) incoming: &'a mut Incoming,
    /// Chunks that this cycle has sent.
    pub(super) recent: &'a mut Recent,
    /// A broken cycle has left chunks over there.
    pub(super) held: bool,
    /// Everything is sent literally.
    pub(super) literal: bool,
}

/// One file's content on its way.
pub(super) struct Flow<'a> {
    key: &'a [u8],
    name: StageName,
    past: Option<&'a Past>,
    ways: Ways<'a>,
    begun: bool,
    /// Chunks that were sent, whole or in part.
    sent: u64,
    /// So many chunks were the former ones, and nothing has been said yet.
    same: u64,
    run: Option<Run>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Stretches to be asked for, and questions that are out: how many bytes of sums each brings.
    stretches: Vec<(u64, u64)>,
    asked: VecDeque<usize>,
    /// Sums that have come and are not used up.
    sums: VecDeque<u8>,
}

impl<'a> Flow<'a> {
    /// Nothing of it has been read.
    pub(super) fn new(key: &'a [u8], past: Option<&'a Past>, ways: Ways<'a>) -> Self {
        Flow {
            key,
            name: stage_name(key),
            past,
            ways,
            begun: false,
            sent: 0,
            same: 0,
            run: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            stretches: Vec::new(),
            asked: VecDeque::new(),
            sums: VecDeque::new(),
        }
    }

    /// The file is open. A new size or time is sent in any case, so content need not be waited for.
    ///
    /// # Errors
    ///
    /// What the link says.
    pub(super) fn open(&mut self, entry: &Entry) -> io::Result<()> {
        let kept = self.past.is_some_and(|Past { row: Row { entry: former, .. }, .. }| {
            former.size() == entry.size() && former.mtime == entry.mtime
        });
        if kept { Ok(()) } else { self.begin(entry) }
    }

    fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        self.begun = true;
        Message::Put { key: self.key, entry: entry.clone(), same: None }.put(self.ways.outgoing)?;
        if let Some(past) = self.past.filter(|_| self.same > 0) {
            self.run = Some(Run { key: past.from.clone(), number: 0, count: self.same, offset: 0 });
        }
        Ok(())
    }

    /// The next piece of the file.
    ///
    /// # Errors
    ///
    /// What the link or the index says.
    pub(super) fn add(&mut self, entry: &Entry, piece: &Piece<'_>, writer: &Writer<'_>) -> io::Result<()> {
        if !self.begun {
            if piece.former == Some(self.same) {
                self.same += 1;
                return Ok(());
            }
            self.begin(entry)?;
        }
        let Chunk { len, hash } = piece.chunk;
        let Some(hash) = hash else { return self.put(Waiting::Hole(len)) };
        if let (Some(run), Some(number)) = (&mut self.run, piece.former)
            && self.past.is_some_and(|past| past.from == run.key)
            && run.number + run.count == number
        {
            run.count += 1;
            return Ok(());
        }
        if !self.ways.literal {
            if let Some(place) = self.ways.base.place(&hash)? {
                match &mut self.run {
                    Some(run) if run.key == place.key && run.number + run.count == place.number => run.count += 1,
                    _ => {
                        self.end_run()?;
                        self.run = Some(Run { key: place.key, number: place.number, count: 1, offset: place.offset });
                    }
                }
                return Ok(());
            }
            if self.ways.held
                && let Some((name, offset)) = writer.held(&hash)?
            {
                return self.put(Waiting::Staged { old: true, name, offset, len, hash });
            }
            if let Some((name, offset)) = self.ways.recent.find(&hash) {
                return self.put(Waiting::Staged { old: false, name, offset, len, hash });
            }
        }
        if len >= WORTH {
            self.ways.recent.note(&hash, self.name, piece.offset);
        }
        self.end_run()?;
        let begin = piece.offset;
        let is_over = self.past.is_some_and(|past| past.from == self.key && begin < past.row.entry.size());
        if is_over && len > PAGE {
            self.stretches.push((begin, len));
            if self.stretches.len() == TOGETHER {
                self.ask()?;
            }
            self.sent += 1;
            return self.put(Waiting::Over { begin, hash, data: piece.data.to_vec() });
        }
        self.sent += 1;
        if self.waiting.is_empty() {
            return Message::Chunk { data: piece.data }.put(self.ways.outgoing);
        }
        self.put(Waiting::Literal(piece.data.to_vec()))
    }

    fn end_run(&mut self) -> io::Result<()> {
        match self.run.take() {
            Some(run) => self.put(Waiting::Run(run)),
            None => Ok(()),
        }
    }

    fn put(&mut self, record: Waiting) -> io::Result<()> {
        if !matches!(record, Waiting::Run(_)) {
            self.end_run()?;
        }
        if self.waiting.is_empty() && !matches!(record, Waiting::Over { .. }) {
            return send(record, &mut VecDeque::new(), self.ways.outgoing);
        }
        if let Waiting::Literal(data) | Waiting::Over { data, .. } = &record {
            self.waiting_bytes += data.len();
        }
        self.waiting.push_back(record);
        while self.waiting_bytes > WAITING {
            self.advance()?;
        }
        Ok(())
    }

    fn ask(&mut self) -> io::Result<()> {
        if self.stretches.is_empty() {
            return Ok(());
        }
        let stretches = std::mem::take(&mut self.stretches);
        self.asked.push_back(stretches.iter().map(|&(at, len)| pages(at, len).count() * 8).sum());
        Message::AskSums { key: self.key, stretches }.put(self.ways.outgoing)?;
        self.ways.outgoing.flush()
    }

    /// Sends the record that waits longest, and waits for its sums before.
    fn advance(&mut self) -> io::Result<()> {
        let Some(record) = self.waiting.pop_front() else { return Ok(()) };
        if let Waiting::Literal(data) | Waiting::Over { data, .. } = &record {
            self.waiting_bytes -= data.len();
        }
        if let Waiting::Over { begin, data, .. } = &record {
            let wanted = pages(*begin, data.len() as u64).count() * 8;
            while self.sums.len() < wanted {
                self.listen()?;
            }
        }
        send(record, &mut self.sums, self.ways.outgoing)
    }

    fn listen(&mut self) -> io::Result<()> {
        if self.asked.is_empty() {
            self.ask()?;
        }
        let wanted = self.asked.pop_front().ok_or_else(unexpected)?;
        match next(self.ways.incoming)? {
            Message::Sums { sums } if sums.len() == wanted => {
                self.sums.extend(sums);
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    /// All of it has been added: sends what still waits. Whether anything was sent at all, and how many chunks.
    ///
    /// # Errors
    ///
    /// What the link says.
    pub(super) fn finish(&mut self) -> io::Result<(bool, u64)> {
        self.end_run()?;
        while !self.waiting.is_empty() {
            self.advance()?;
        }
        Ok((self.begun, self.sent))
    }

    /// The file would not hold still.
    ///
    /// # Errors
    ///
    /// What the link says.
    pub(super) fn abandon(&mut self) -> io::Result<()> {
        while !self.asked.is_empty() {
            self.listen()?;
        }
        if self.begun {
            self.ways.recent.forget();
            Message::Abandon.put(self.ways.outgoing)?;
        }
        Ok(())
    }
}

fn send(record: Waiting, sums: &mut VecDeque<u8>, outgoing: &mut Outgoing) -> io::Result<()> {
    match record {
        Waiting::Run(Run { key, number, count, offset }) => {
            Message::Run { key: &key, number, count, offset }.put(outgoing)
        }
        Waiting::Hole(len) => Message::Hole { len }.put(outgoing),
        Waiting::Staged { old, name, offset, len, hash } => {
            Message::Staged { old, name, offset, len, hash }.put(outgoing)
        }
        Waiting::Literal(data) => Message::Chunk { data: &data }.put(outgoing),
        Waiting::Over { begin, hash, data } => match patch(begin, &data, sums) {
            Some((literal, pages)) => {
                Message::Patch { hash, len: data.len() as u64, literal: &literal, data: &pages }.put(outgoing)
            }
            None => Message::Chunk { data: &data }.put(outgoing),
        },
    }
}

/// A chunk as pages over the former content: which are literal, and those. Takes its sums. `None`: literal as a whole
/// is no longer.
fn patch(begin: u64, data: &[u8], sums: &mut VecDeque<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
    let count = pages(begin, data.len() as u64).count();
    let mut literal = vec![0; count.div_ceil(8)];
    let mut differing = Vec::new();
    for (number, (at, n)) in pages(begin, data.len() as u64).enumerate() {
        let page = &data[(at - begin) as usize..(at - begin + n) as usize];
        if !sums.drain(..8).eq(sum(page)) {
            literal[number / 8] |= 1 << (number % 8);
            differing.extend_from_slice(page);
        }
    }
    (differing.len() < data.len()).then_some((literal, differing))
}
