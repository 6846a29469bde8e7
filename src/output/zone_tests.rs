//! The file of the machine's time zone.

use super::*;
use jiff::Timestamp;

#[test]
fn the_file_says_what_its_name_says() {
    let (Some(zone), Ok(named)) = (from_file(), TimeZone::try_system()) else {
        println!("skipped: this machine has no /etc/localtime");
        return;
    };
    for seconds in (0..2_000_000_000).step_by(1_234_567) {
        let at = Timestamp::from_second(seconds).unwrap();
        assert_eq!(zone.to_offset(at), named.to_offset(at), "{at}");
    }
}
