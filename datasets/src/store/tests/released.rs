//! Slices and splits of the released datasets (datasets.md sections 2.3, 2.4 and 17).

use super::*;
use crate::slice::{Shuffle, SliceIndex};
use crate::{Dropped, SliceRef};

/// An index over episodes of given lengths, numbered from 0.
fn index(context: usize, lengths: &[u64], shuffle: Shuffle) -> SliceIndex {
    let episodes: Vec<(u64, u64)> = (0..).zip(lengths.iter().copied()).collect();
    SliceIndex::new(&SliceSpec::new(context, 5, "all"), &episodes, shuffle).expect("an index")
}

/// Lengths between 49 and 246 with a given sum: those of Push-T, as far as they are published.
fn lengths(episodes: u64, sum: u64) -> Vec<u64> {
    let mut lengths: Vec<u64> = (0..episodes).map(|k| 49 + k * 37 % 60).collect();
    let mut left = sum - lengths.iter().sum::<u64>();
    for length in &mut lengths {
        let more = left.min(246 - *length);
        *length += more;
        left -= more;
    }
    assert_eq!((left, lengths.iter().sum::<u64>()), (0, sum));
    lengths
}

/// Every row of the table of section 2.4. An index has one running count per episode, and no list of slices.
#[test]
fn released_datasets_have_their_number_of_slices() {
    let pusht = (lengths(18_685, 2_336_736), lengths(21, 2_514));
    let same = |length: u64, episodes: usize| vec![length; episodes];
    let cases: [(&str, usize, Vec<u64>, usize); 8] = [
        ("pointmaze train", 3, same(100, 1_800), 145_800),
        ("pointmaze val", 7, same(100, 200), 12_200),
        ("wall train", 3, same(50, 1_728), 53_568),
        ("wall val", 7, same(50, 192), 2_112),
        ("metaworld train", 3, same(99, 11_340), 907_200),
        ("metaworld val", 17, same(99, 1_260), 12_600),
        ("pusht train", 3, pusht.0, 1_981_721),
        ("pusht val", 7, pusht.1, 2_514 - 39 * 21),
    ];
    for (name, context, lengths, expected) in cases {
        let index = index(context, &lengths, Shuffle::None);
        assert_eq!(index.len(), expected, "{name}");
        assert_eq!(index.dropped(), Dropped::default(), "{name}");
        let counted: u64 = index.per_episode().map(|(_, slices)| slices).sum();
        assert_eq!(counted as usize, expected, "{name}");
        let last = lengths.len() - 1;
        let end = SliceRef {
            episode: last as u64,
            start: lengths[last] as usize - 5 * (context + 1),
        };
        assert_eq!(index.get(expected - 1), end, "{name}");
    }
    assert_eq!(101 * 23_136, 2_336_736);
}

/// The first six and last three slices in the order of JEPA-WMs, as positions in the list of all of them.
#[test]
fn released_orders_number_the_slices_of_the_list() {
    let pusht = lengths(18_685, 2_336_736);
    let cases: [(Vec<u64>, [usize; 6], [usize; 3]); 4] = [
        (
            vec![50; 1_728],
            [47944, 45457, 29582, 4064, 41407, 43989],
            [20201, 15296, 37076],
        ),
        (
            vec![100; 1_800],
            [34120, 94412, 106_170, 111_830, 25195, 65805],
            [121_624, 13392, 103_108],
        ),
        (
            vec![99; 11_340],
            [552_520, 406_477, 773_996, 716_999, 550_559, 693_970],
            [564_633, 562_367, 752_915],
        ),
        (
            pusht,
            [228_413, 477_072, 206_021, 1_560_732, 875_574, 1_467_386],
            [1_040_099, 1_617_720, 857_781],
        ),
    ];
    for (lengths, first, last) in cases {
        let list = index(3, &lengths, Shuffle::None);
        let order = index(3, &lengths, Shuffle::Torch { seed: 234 });
        let numbers = (0..6).chain(order.len() - 3..order.len());
        for (k, position) in numbers.zip(first.into_iter().chain(last)) {
            assert_eq!(
                order.get(k),
                list.get(position),
                "slice {k} of {}",
                order.len()
            );
        }
    }
}

/// Section 17: T = 20 is one window, 19 none, 3 too short; blocks are the native actions one after the other.
#[test]
fn windows_and_action_blocks_are_those_of_the_reference_slicer() {
    let three = index(3, &[20, 19, 3], Shuffle::None);
    assert_eq!(
        three.per_episode().collect::<Vec<_>>(),
        [(0, 1), (1, 0), (2, 0)]
    );
    let dropped = Dropped {
        too_short: 1,
        no_window: 1,
    };
    assert_eq!(three.dropped(), dropped);

    let root = folder();
    let options = WriterOptions {
        manifest: ManifestDraft {
            fields: vec![Field::action(2, "none", "2r, 2r + 1")],
            cameras: Vec::new(),
            extra_last_obs: false,
            ..draft(PixelType::U8)
        },
        ..options(1)
    };
    let writer = DatasetWriter::open(&root.path().join("set"), options).expect("a writer");
    let action = Column::F32 {
        width: 2,
        values: (0..40_u8).map(f32::from).collect(),
    };
    let recorded = Episode {
        length: 20,
        columns: BTreeMap::from([(ACTION.into(), action)]),
        cameras: Vec::new(),
        ..episode(0)
    };
    writer.accept(recorded).expect("an episode");
    let dataset = writer.finish(&SplitRule::JEPA_WMS).expect("a dataset");
    let spec = SliceSpec::new(3, 5, "all");
    let slices = dataset.slices(&spec).expect("slices");
    assert_eq!(slices.len(), 1);
    let slice = dataset.read_slice(&spec, slices.get(0)).expect("a slice");
    assert_eq!(slice.rows, [0, 5, 10, 15]);
    let blocks: Vec<&[f32]> = slice.action.chunks_exact(10).collect();
    assert_eq!(blocks.len(), 4);
    assert_eq!(
        blocks[0],
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    );
    assert_eq!(
        blocks[3],
        [30.0, 31.0, 32.0, 33.0, 34.0, 35.0, 36.0, 37.0, 38.0, 39.0]
    );
}

/// Section 16, case 53: nothing needs a validation split.
#[test]
fn a_split_may_be_empty() {
    let root = folder();
    let path = root.path().join("set");
    let writer = DatasetWriter::open(&path, options(3)).expect("a writer");
    (0..3).for_each(|k| writer.accept(episode(k)).expect("an episode"));
    let rule = SplitRule::JepaWms {
        fraction: 1.0,
        seed: 1,
    };
    let dataset = writer.finish(&rule).expect("a dataset");
    assert_eq!(dataset.split("train").expect("a split").episodes.len(), 3);
    let none = dataset
        .slices(&SliceSpec::new(3, 5, "val"))
        .expect("slices");
    assert!(none.is_empty());
    assert_eq!(none.dropped(), Dropped::default());
    let problems = crate::conformance::validate(&path, &|| {}).expect("a check");
    assert_eq!(problems, []);
}

/// Section 16, case 51: a range beyond the source is refused, not cut down to what there is.
#[test]
fn more_episodes_than_there_are_are_refused_with_their_number() {
    let root = folder();
    for range in [0..4, 3..4, 2..2] {
        let asked = WriterOptions {
            selection: Some(range.clone()),
            ..options(3)
        };
        let refused = DatasetWriter::open(&root.path().join("set"), asked).map(|_| ());
        let error = refused.expect_err("refused");
        assert!(
            error.to_string().contains("3 episodes"),
            "{range:?}: {error}"
        );
    }
}
