use super::*;
use std::thread;

#[test]
fn a_pool_gives_what_it_has_and_takes_it_back_wiped() {
    let pool = Pool::new(3, 100).unwrap();
    assert_eq!(pool.available(), 3);
    let mut taken: Vec<_> = (0..3).map(|_| pool.take(100).unwrap()).collect();
    assert!(pool.take(1).is_none() && pool.take(0).is_none(), "none is free");
    for (buffer, byte) in taken.iter_mut().zip(1..) {
        assert_eq!(&buffer[..], [0; 100]);
        buffer.fill(byte);
    }
    assert!(
        taken.iter().zip(1..).all(|(buffer, byte)| buffer.iter().all(|b| *b == byte)),
        "no byte is shared"
    );
    // Cut off bytes are wiped too.
    taken[0].truncate(10);
    assert_eq!(&taken[0][..], [1; 10]);
    taken[0].truncate(50);
    assert_eq!(taken[0].len(), 10);
    drop(taken);
    assert_eq!(pool.available(), 3);
    let again: Vec<_> = (0..3).map(|_| pool.take(100).unwrap()).collect();
    assert!(again.iter().all(|buffer| buffer.iter().all(|byte| *byte == 0)));
    assert!(pool.take(101).is_none(), "too long");
}

#[test]
fn a_pool_that_cannot_be_is_an_error() {
    for (count, len) in [(0, 1), (1, 0), (usize::MAX, 2), (usize::MAX, usize::MAX)] {
        assert!(matches!(Pool::new(count, len), Err(CryptoError::Memory(_))), "{count} of {len}");
    }
}

#[test]
fn a_buffer_outlives_its_pool_and_moves_to_another_thread() {
    let pool = Pool::new(1, 8).unwrap();
    let mut buffer = pool.take(8).unwrap();
    drop(pool);
    buffer.copy_from_slice(b"a secret");
    let seen = thread::spawn(move || buffer.to_vec()).join().unwrap();
    assert_eq!(seen, b"a secret");
}

#[test]
fn many_threads_never_share_a_buffer_or_a_key() {
    let pool = Pool::new(4, 64).unwrap();
    let work = |number: u8| {
        let pool = pool.clone();
        move || {
            for _ in 0..500 {
                let key = Key::from_bytes(&[number; KEY_LEN]).unwrap();
                if let Some(mut buffer) = pool.take(64) {
                    assert!(buffer.iter().all(|byte| *byte == 0));
                    buffer.fill(number);
                    thread::yield_now();
                    assert!(buffer.iter().all(|byte| *byte == number));
                }
                assert_eq!(key.bytes(), &[number; KEY_LEN]);
            }
        }
    };
    let threads: Vec<_> = (1..=8).map(|number| thread::spawn(work(number))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(pool.available(), 4);
}

#[test]
fn keys_are_what_was_given_stay_where_they_are_and_fill_more_than_one_page() {
    let keys: Vec<_> = (0..=255).map(|byte| Key::from_bytes(&[byte; KEY_LEN]).unwrap()).collect();
    let places: Vec<_> = keys.iter().map(|key| key.bytes().as_ptr()).collect();
    let moved: Vec<_> = keys.into_iter().map(Some).collect();
    for ((key, byte), place) in moved.iter().flatten().zip(0..=255).zip(places) {
        assert_eq!((key.bytes(), key.bytes().as_ptr()), (&[byte; KEY_LEN], place));
    }
    let (a, b) = (Key::random().unwrap(), Key::random().unwrap());
    assert!(a.bytes() != b.bytes() && a.bytes() != &[0; KEY_LEN]);
}
