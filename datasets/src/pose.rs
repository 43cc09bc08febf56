//! Poses of a robot arm: position, orientation and gripper, and the steps between them (datasets.md
//! sections 9.6 and 11.2).
//!
//! Orientations are extrinsic x-y-z Euler angles, what `scipy` calls lower-case `xyz`:
//!
//! ```text
//! R(a, b, c) = Rz(c) Ry(b) Rx(a)
//! ```
//!
//! A step is the change of position in the base frame, the rotation `R' Rᵀ` that leads from one
//! orientation to the next, again as Euler angles, and the change of the gripper. It is no difference of
//! angles, so nothing wraps.

use libm::{atan2, hypot, sincos};

/// `x, y, z` in metres, Euler angles in radians, gripper.
pub type Pose = [f64; 7];

/// Rows of a rotation matrix.
pub type Rotation = [[f64; 3]; 3];

/// Below this cosine of the second angle the first and third turn about one axis; that of `scipy`.
const GIMBAL: f64 = 1e-7;

/// Order of the four numbers of a quaternion in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QuaternionOrder {
    /// `x, y, z, w`, what robosuite writes.
    #[default]
    Xyzw,
    /// `w, x, y, z`, what a reference loader takes robosuite's numbers for.
    Wxyz,
}

/// The rotation matrix of extrinsic x-y-z Euler angles.
pub fn rotation([a, b, c]: [f64; 3]) -> Rotation {
    let ((sa, ca), (sb, cb), (sc, cc)) = (sincos(a), sincos(b), sincos(c));
    [
        [cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa],
        [sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa],
        [-sb, cb * sa, cb * ca],
    ]
}

/// Extrinsic x-y-z Euler angles of a rotation matrix, the second one in -pi/2 to pi/2.
///
/// Where the second angle is a quarter turn only the sum or difference of the others is known: the third
/// is 0 then.
pub fn euler(r: &Rotation) -> [f64; 3] {
    let cosine = hypot(r[0][0], r[1][0]);
    let second = atan2(-r[2][0], cosine);
    if cosine <= GIMBAL {
        return [atan2(-r[1][2], r[1][1]), second, 0.0];
    }
    [atan2(r[2][1], r[2][2]), second, atan2(r[1][0], r[0][0])]
}

/// Euler angles of a quaternion of any length but zero; nothing for zero and for numbers that are not
/// finite.
pub fn quaternion_to_euler(quaternion: [f64; 4], order: QuaternionOrder) -> Option<[f64; 3]> {
    let [x, y, z, w] = match order {
        QuaternionOrder::Xyzw => quaternion,
        QuaternionOrder::Wxyz => {
            let [w, x, y, z] = quaternion;
            [x, y, z, w]
        }
    };
    let length = hypot(hypot(x, y), hypot(z, w));
    if !length.is_normal() {
        return None;
    }
    let [x, y, z, w] = [x, y, z, w].map(|v| v / length);
    let r = [
        [
            1.0 - 2.0 * (y * y + z * z),
            2.0 * (x * y - z * w),
            2.0 * (x * z + y * w),
        ],
        [
            2.0 * (x * y + z * w),
            1.0 - 2.0 * (x * x + z * z),
            2.0 * (y * z - x * w),
        ],
        [
            2.0 * (x * z - y * w),
            2.0 * (y * z + x * w),
            1.0 - 2.0 * (x * x + y * y),
        ],
    ];
    Some(euler(&r))
}

/// The step that leads from one pose to the next.
pub fn delta(from: &Pose, to: &Pose) -> Pose {
    let turn = multiply(&rotation(angles(to)), &transpose(&rotation(angles(from))));
    let [a, b, c] = euler(&turn);
    let moved: [f64; 7] = std::array::from_fn(|i| to[i] - from[i]);
    [moved[0], moved[1], moved[2], a, b, c, moved[6]]
}

/// The steps between consecutive poses: one less than there are poses.
pub fn deltas(poses: &[Pose]) -> Vec<Pose> {
    poses
        .windows(2)
        .map(|pair| delta(&pair[0], &pair[1]))
        .collect()
}

/// The pose after a step, with the gripper kept in 0 to 1.
pub fn compose(pose: &Pose, step: &Pose) -> Pose {
    let turned = multiply(&rotation(angles(step)), &rotation(angles(pose)));
    let [a, b, c] = euler(&turned);
    let moved: [f64; 7] = std::array::from_fn(|i| pose[i] + step[i]);
    [
        moved[0],
        moved[1],
        moved[2],
        a,
        b,
        c,
        moved[6].clamp(0.0, 1.0),
    ]
}

/// A pose seen from a camera whose own pose, position and Euler angles, is `extrinsics`.
pub fn in_camera_frame(pose: &Pose, extrinsics: &[f64; 6]) -> Pose {
    let [x, y, z, a, b, c] = *extrinsics;
    let inverse = transpose(&rotation([a, b, c]));
    let offset = [pose[0] - x, pose[1] - y, pose[2] - z];
    let at = inverse.map(|row| row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2]);
    let [a, b, c] = euler(&multiply(&inverse, &rotation(angles(pose))));
    [at[0], at[1], at[2], a, b, c, pose[6]]
}

fn angles(pose: &Pose) -> [f64; 3] {
    [pose[3], pose[4], pose[5]]
}

fn transpose(r: &Rotation) -> Rotation {
    std::array::from_fn(|i| std::array::from_fn(|j| r[j][i]))
}

fn multiply(a: &Rotation, b: &Rotation) -> Rotation {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers are set, not computed")]
mod tests {
    use std::f64::consts::FRAC_PI_2;

    use proptest::prelude::*;

    use super::*;

    fn pose(angles: [f64; 3]) -> Pose {
        let [a, b, c] = angles;
        [0.0, 0.0, 0.0, a, b, c, 0.0]
    }

    #[track_caller]
    fn near(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= tolerance, "{found:?} is not {expected:?}");
        }
    }

    /// datasets.md section 17, printed with nine digits.
    #[test]
    fn steps_equal_the_golden_vector_and_lead_back() {
        let (from, to) = (pose([3.0, 0.1, -1.9]), pose([-3.1, 0.05, -1.85]));
        let step = delta(&from, &to);
        near(
            &step[3..6],
            &[-0.106_037_775, -0.157_193_123, 0.044_590_574],
            1e-9,
        );
        near(&compose(&from, &step), &to, 1e-12);
    }

    #[test]
    fn matrices_equal_the_golden_vector() {
        let expected = [
            [-0.321_674_466, -0.941_384_649, -0.101_589_767],
            [-0.941_572_529, 0.306_722_304, 0.139_149_565],
            [-0.099_833_417, 0.140_414_996, -0.985_046_658],
        ];
        let found = rotation([3.0, 0.1, -1.9]);
        near(found.as_flattened(), expected.as_flattened(), 1e-9);
    }

    /// The product of half-angle quaternions about z, y and x.
    fn quaternion([a, b, c]: [f64; 3]) -> [f64; 4] {
        let ((sa, ca), (sb, cb), (sc, cc)) = (
            (a / 2.0).sin_cos(),
            (b / 2.0).sin_cos(),
            (c / 2.0).sin_cos(),
        );
        [
            sa * cb * cc - ca * sb * sc,
            ca * sb * cc + sa * cb * sc,
            ca * cb * sc - sa * sb * cc,
            ca * cb * cc + sa * sb * sc,
        ]
    }

    /// datasets.md section 11.2.
    #[test]
    fn the_wrong_order_of_a_quaternion_gives_the_known_wrong_angles() {
        let numbers = quaternion([3.0, 0.1, -1.9]);
        let angles = |order| quaternion_to_euler(numbers, order).expect("a rotation");
        near(&angles(QuaternionOrder::Xyzw), &[3.0, 0.1, -1.9], 1e-12);
        near(&angles(QuaternionOrder::Wxyz), &[-1.9, -0.1, 0.1416], 1e-4);
    }

    #[test]
    fn no_rotation_comes_from_zero_or_infinity() {
        for numbers in [
            [0.0; 4],
            [f64::NAN, 0.0, 0.0, 1.0],
            [f64::INFINITY, 0.0, 0.0, 1.0],
        ] {
            assert_eq!(quaternion_to_euler(numbers, QuaternionOrder::Xyzw), None);
        }
        let doubled = quaternion([0.3, 0.2, 0.1]).map(|v| 2.0 * v);
        let angles = quaternion_to_euler(doubled, QuaternionOrder::Xyzw).expect("a rotation");
        near(&angles, &[0.3, 0.2, 0.1], 1e-12);
    }

    #[test]
    fn at_a_quarter_turn_the_third_angle_is_zero_and_the_rotation_is_kept() {
        for second in [FRAC_PI_2, -FRAC_PI_2] {
            let turned = rotation([0.7, second, 0.4]);
            let [a, b, c] = euler(&turned);
            assert_eq!(c, 0.0);
            near(&[b], &[second], 1e-7);
            let first = if second > 0.0 { 0.7 - 0.4 } else { 0.7 + 0.4 };
            near(&[a], &[first], 1e-7);
            near(
                rotation([a, b, c]).as_flattened(),
                turned.as_flattened(),
                1e-7,
            );
        }
    }

    #[test]
    fn grippers_stay_between_open_and_closed() {
        let mut step = pose([0.0; 3]);
        step[6] = 0.8;
        let mut at = pose([0.0; 3]);
        at[6] = 0.5;
        assert_eq!(compose(&at, &step)[6], 1.0);
        step[6] = -0.8;
        assert_eq!(compose(&at, &step)[6], 0.0);
    }

    #[test]
    fn a_camera_at_the_arm_sees_it_at_the_origin() {
        let at = [0.4, -0.2, 0.3, 3.0, 0.1, -1.9, 0.25];
        let seen = in_camera_frame(&at, &[0.4, -0.2, 0.3, 3.0, 0.1, -1.9]);
        near(&seen, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25], 1e-12);
    }

    proptest! {
        #[test]
        fn steps_lead_from_pose_to_pose(
            from in prop::array::uniform7(-1.0..1.0_f64),
            to in prop::array::uniform7(-1.0..1.0_f64),
        ) {
            let (mut from, mut to) = (from, to);
            for at in [&mut from, &mut to] {
                at[3] *= 3.1;
                at[4] *= 1.5;
                at[5] *= 3.1;
                at[6] = at[6].abs();
            }
            let reached = compose(&from, &delta(&from, &to));
            for (a, b) in reached.iter().zip(&to) {
                prop_assert!((a - b).abs() < 1e-9, "{reached:?} is not {to:?}");
            }
        }
    }
}
