//! What the tests share.

use ponix_faults::{Event, Poison};

/// Whether the cases that are cut short by default run at full size.
pub(crate) fn full() -> bool {
    std::env::var_os("PONIX_FAULTS_FULL").is_some_and(|value| value == "1")
}

/// Whether the tests that mount file systems are left out: where `PONIX_FAULTS_SKIP_DISKS=1` says that
/// nothing may be mounted. Without it they fail there.
pub(crate) fn skips_disks() -> bool {
    let skips = std::env::var_os("PONIX_FAULTS_SKIP_DISKS").is_some_and(|value| value == "1");
    if skips {
        println!("skipped: PONIX_FAULTS_SKIP_DISKS=1");
    }
    skips
}

/// One number by default, another at full size.
pub(crate) fn size(short: u64, full_size: u64) -> u64 {
    if full() { full_size } else { short }
}

/// Good events of every kind, so many.
pub(crate) fn good(count: u64) -> impl Iterator<Item = Event> {
    (0..count).map(|n| match n % 10 {
        3 => Event::with_header_alone(n),
        7 => Event::anonymous(n),
        _ => Event::good(n),
    })
}

/// Poison that our own decoder refuses, of every kind.
pub(crate) fn poison() -> impl Iterator<Item = Event> {
    let kinds = Poison::ALL.into_iter();
    let decoders = kinds.filter(|poison| *poison != Poison::RefusedByStore);
    let poison = decoders.map(|poison| Event::poison(0, poison));
    poison.chain([Event::anonymous_poison(0)])
}
