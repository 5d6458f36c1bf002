//! Reading ranges of a stream that changes meanwhile.

use ponix_nats::{RangeReader, SequenceRange, held_range};

use crate::support::{Scene, numbers};

/// More than a reader asks the server for at once.
const MESSAGES: usize = 2_000;

async fn read_on(reader: &mut RangeReader<'_>) -> Vec<u64> {
    let mut sequences = Vec::new();
    while let Some(delivery) = reader.next().await.unwrap() {
        sequences.push(delivery.stream_sequence());
    }
    sequences
}

#[tokio::test]
async fn a_range_is_read_whole_and_no_further() {
    let scene = Scene::shared("range").await;
    scene.publish(numbers(0..MESSAGES)).await;
    let stream = scene.stream().await;
    for range in [
        SequenceRange { first: 1, last: 1 },
        SequenceRange {
            first: 7,
            last: 1_500,
        },
        held_range(&stream).await.unwrap(),
    ] {
        let mut reader = RangeReader::open(&stream, range).await.unwrap();
        let expected: Vec<u64> = (range.first..=range.last).collect();
        assert_eq!(read_on(&mut reader).await, expected);
        assert_eq!(reader.unread(), 0);
    }
    let nothing = SequenceRange { first: 5, last: 4 };
    let mut reader = RangeReader::open(&stream, nothing).await.unwrap();
    assert!(read_on(&mut reader).await.is_empty());
    assert_eq!(reader.unread(), 0);
}

#[tokio::test]
async fn a_purge_of_everything_under_a_reader_ends_it() {
    let scene = Scene::shared("purged").await;
    scene.publish(numbers(0..MESSAGES)).await;
    let stream = scene.stream().await;
    let range = held_range(&stream).await.unwrap();

    let mut at_the_start = RangeReader::open(&stream, range).await.unwrap();
    let mut in_the_middle = RangeReader::open(&stream, range).await.unwrap();
    let mut watching = RangeReader::open(&stream, range).await.unwrap();
    in_the_middle.next().await.unwrap().unwrap();
    stream.purge().await.unwrap();
    assert_read_and_unread(&mut at_the_start, 0).await;
    assert_read_and_unread(&mut in_the_middle, 1).await;
    // What is published afterwards does not belong to the range.
    scene.publish(numbers(0..10)).await;
    assert_read_and_unread(&mut watching, 0).await;
}

/// Asserts that the rest ends early, and that what is missing is counted.
async fn assert_read_and_unread(reader: &mut RangeReader<'_>, read_before: u64) {
    let read = read_before + read_on(reader).await.len() as u64;
    assert!(read < MESSAGES as u64, "the purge came too late");
    assert_eq!(reader.unread(), MESSAGES as u64 - read);
}

#[tokio::test]
async fn a_last_message_that_is_deleted_under_a_reader_ends_it() {
    let scene = Scene::shared("deleted").await;
    scene.publish(numbers(0..MESSAGES)).await;
    let stream = scene.stream().await;
    let range = held_range(&stream).await.unwrap();
    let mut reader = RangeReader::open(&stream, range).await.unwrap();
    reader.next().await.unwrap().unwrap();
    stream.delete_message(range.last).await.unwrap();
    let rest = read_on(&mut reader).await;
    assert_eq!(rest, (2..range.last).collect::<Vec<_>>());
    assert_eq!(reader.unread(), 1);
}
