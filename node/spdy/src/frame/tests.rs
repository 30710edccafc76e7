use super::*;

fn pairs(text: &str) -> Headers {
    text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
}

fn every() -> Vec<Frame> {
    vec![
        Frame::Syn { stream: 1, fin: false, unidirectional: false, headers: pairs("streamtype=error port=80") },
        Frame::Syn { stream: 3, fin: true, unidirectional: true, headers: pairs("streamtype=data port=80") },
        Frame::Reply { stream: 1, fin: false, headers: vec![] },
        Frame::Reset { stream: 5, status: STATUS_REFUSED_STREAM },
        Frame::Settings(vec![(7, 65536), (4, 100)]),
        Frame::Ping(7),
        Frame::GoAway { last: 9, status: 0 },
        Frame::Headers { stream: 1, fin: true, headers: pairs("a=b") },
        Frame::Window { stream: 0, delta: LOW },
        Frame::Data { stream: 3, fin: false, bytes: Bytes::from_static(b"hello") },
        Frame::Data { stream: 3, fin: true, bytes: Bytes::new() },
    ]
}

fn decode(decoder: &mut Decoder, buffer: &mut BytesMut) -> Vec<Frame> {
    std::iter::from_fn(|| decoder.decode(buffer).unwrap()).collect()
}

#[test]
fn frames_have_the_bytes_of_the_specification() {
    let cases: [(Frame, &[u8]); 6] = [
        (Frame::Ping(1), &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]),
        (Frame::Reset { stream: 5, status: 1 }, &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1]),
        (Frame::GoAway { last: 3, status: 0 }, &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 0]),
        (Frame::Window { stream: 1, delta: 256 }, &[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 1, 0]),
        (Frame::Settings(vec![(7, 1)]), &[0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 1]),
        (Frame::Data { stream: 3, fin: true, bytes: "hi".into() }, &[0, 0, 0, 3, 1, 0, 0, 2, b'h', b'i']),
    ];
    for (frame, bytes) in cases {
        let mut buffer = BytesMut::new();
        Encoder::default().encode(&frame, &mut buffer);
        assert_eq!(&buffer[..], bytes, "{frame:?}");
        assert_eq!(Decoder::default().decode(&mut buffer), Ok(Some(frame)));
    }
}

#[test]
fn frames_come_out_as_they_went_in_however_they_are_cut() {
    let mut whole = BytesMut::new();
    let mut encoder = Encoder::default();
    every().iter().for_each(|frame| encoder.encode(frame, &mut whole));
    assert_eq!(decode(&mut Decoder::default(), &mut whole.clone()), every());
    for cut in 0..whole.len() {
        let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::from(&whole[..cut]));
        let mut frames = decode(&mut decoder, &mut buffer);
        buffer.extend_from_slice(&whole[cut..]);
        frames.extend(decode(&mut decoder, &mut buffer));
        assert_eq!(joined(frames), every(), "cut at {cut}");
    }
}

/// Data that came in several pieces, as one frame again.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut all: Vec<Frame> = Vec::new();
    for frame in frames {
        match (all.last_mut(), frame) {
            (
                Some(Frame::Data { stream, fin: fin @ false, bytes }),
                Frame::Data { stream: same, fin: last, bytes: more },
            ) if *stream == same && !more.is_empty() => {
                *bytes = [&bytes[..], &more[..]].concat().into();
                *fin = last;
            }
            (_, frame) => all.push(frame),
        }
    }
    all
}

#[test]
fn long_data_comes_in_pieces() {
    let bytes = Bytes::from(vec![7; 3 * DATA_MAX + 1]);
    let mut buffer = BytesMut::new();
    let frame = Frame::Data { stream: 1, fin: true, bytes };
    Encoder::default().encode(&frame, &mut buffer);
    let frames = decode(&mut Decoder::default(), &mut buffer);
    let ends: Vec<_> = frames.iter().map(|frame| matches!(frame, Frame::Data { fin: true, .. })).collect();
    assert_eq!(ends, [false, false, false, true]);
    assert_eq!(joined(frames), [frame]);
}

#[test]
fn what_is_malformed_is_refused() {
    let cases: [(&[u8], Error); 6] = [
        (&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], Error::Version(2)),
        (&[0x80, 3, 0, 1, 0, 0xff, 0, 0], Error::TooLong(0xff_0000)),
        (&[0x80, 3, 0, 6, 0, 0, 0, 0], Error::Malformed(6)),
        (&[0x80, 3, 0, 4, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff], Error::Malformed(4)),
        (&[0x80, 3, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1], Error::Malformed(1)),
        (&[0x80, 3, 0, 2, 0, 0, 0, 4, 0, 0, 0, 1], Error::Headers),
    ];
    for (bytes, error) in cases {
        assert_eq!(Decoder::default().decode(&mut BytesMut::from(bytes)), Err(error), "{bytes:?}");
    }
    let mut unknown = BytesMut::from(&[0x80, 3, 0, 99, 0, 0, 0, 1, 0, 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1][..]);
    assert_eq!(Decoder::default().decode(&mut unknown), Ok(Some(Frame::Ping(1))));
}

#[test]
fn no_input_panics_or_is_kept() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut valid = BytesMut::new();
    let mut encoder = Encoder::default();
    every().iter().for_each(|frame| encoder.encode(frame, &mut valid));
    for round in 0..20_000 {
        let mut bytes = valid.clone();
        match round % 3 {
            0 => (0..1 + random() % 4).for_each(|_| {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }),
            1 => bytes.truncate(random() as usize % bytes.len()),
            _ => bytes.iter_mut().for_each(|byte| *byte = random() as u8),
        }
        let (mut decoder, mut total) = (Decoder::default(), 0);
        while let Ok(Some(frame)) = decoder.decode(&mut bytes) {
            if let Frame::Data { bytes, .. } = frame {
                total += bytes.len();
            }
        }
        assert!(total <= valid.len());
    }
}
