//! Tests of `program_pages`: what the kernel says of the mappings of this program.

use super::*;
use std::fs;

/// Of the mapping that this address is in: what is mapped, in KiB, and its flags.
fn mapping_of(address: usize) -> (u64, String) {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_it = false;
    let mut rss_kib = 0;
    for line in smaps.lines() {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
        let number = |text: &str| usize::from_str_radix(text, 16).ok();
        if let Some((start, end)) = range.and_then(|(a, b)| Some((number(a)?, number(b)?))) {
            is_it = (start..end).contains(&address);
        } else if let (true, Some(rss)) = (is_it, line.strip_prefix("Rss:")) {
            rss_kib = rss.trim().trim_end_matches(" kB").parse().unwrap();
        } else if let (true, Some(flags)) = (is_it, line.strip_prefix("VmFlags:")) {
            return (rss_kib, flags.to_string());
        }
    }
    panic!("{address:#x} is in no mapping");
}

/// A number that depends on every byte of the part.
fn sum(part: &Range<usize>) -> u64 {
    let place = std::ptr::with_exposed_provenance::<u8>(part.start);
    // SAFETY: a part of the program that is mapped for reading and never written.
    let bytes = unsafe { std::slice::from_raw_parts(place, part.len()) };
    bytes.iter().fold(0, |sum: u64, byte| sum.rotate_left(5) ^ u64::from(*byte))
}

/// The only test that changes how pages come: its steps need each other's result.
#[test]
fn what_is_given_back_comes_again_as_it_was_page_by_page_until_there_is_work() {
    let code = sum as *const () as usize;
    let readable: Vec<_> = parts().into_iter().filter(|part| part.contains(&code)).collect();
    let [part] = &readable[..] else { panic!("{code:#x} is in {readable:x?}") };
    let before = sum(part);
    let (whole_kib, flags) = mapping_of(code);
    assert!(!flags.contains(" uw"), "nobody watches: {flags}");

    let mut pages = ProgramPages::default();
    pages.give_back();
    let (rest_kib, flags) = mapping_of(code);
    assert!(rest_kib < whole_kib, "{rest_kib} of {whole_kib} KiB are left");
    match &pages.watch {
        Some(_) => assert!(flags.contains(" uw"), "it is watched for writing: {flags}"),
        None => eprintln!("skipped: no userfaultfd with WP_ASYNC (Linux 6.7) is to be had here"),
    }
    assert_eq!(sum(part), before, "the program is what it was");
    pages.give_back();
    assert_eq!(sum(part), before, "twice");

    pages.come_together();
    assert!(!mapping_of(code).1.contains(" uw"));
    assert_eq!(sum(part), before);
}
