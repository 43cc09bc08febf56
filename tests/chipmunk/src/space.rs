//! Declarations of the functions used, and the space of evaluation.md section 1.3 built with them.

use std::ffi::c_void;
use std::ptr::NonNull;

/// `cpVect`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
struct Vector {
    x: f64,
    y: f64,
}

/// `cpTransform`, the matrix `a c tx; b d ty`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Transform {
    a: f64,
    b: f64,
    c: f64,
    d: f64,
    tx: f64,
    ty: f64,
}

const IDENTITY: Transform = Transform {
    a: 1.0,
    b: 0.0,
    c: 0.0,
    d: 1.0,
    tx: 0.0,
    ty: 0.0,
};

/// Objects of the library, seen as addresses only.
type Object = *mut c_void;
type ArbiterVisitor = unsafe extern "C" fn(body: Object, arbiter: Object, data: *mut c_void);

#[link(name = "chipmunk")]
unsafe extern "C" {
    fn cpSpaceNew() -> Object;
    fn cpSpaceFree(space: Object);
    fn cpSpaceSetDamping(space: Object, damping: f64);
    fn cpSpaceGetStaticBody(space: Object) -> Object;
    fn cpSpaceAddShape(space: Object, shape: Object) -> Object;
    fn cpSpaceAddBody(space: Object, body: Object) -> Object;
    fn cpSpaceStep(space: Object, time_step: f64);
    fn cpBodyNew(mass: f64, moment: f64) -> Object;
    fn cpBodyNewKinematic() -> Object;
    fn cpBodyFree(body: Object);
    fn cpBodySetCenterOfGravity(body: Object, centre: Vector);
    fn cpBodySetPosition(body: Object, position: Vector);
    fn cpBodyGetPosition(body: Object) -> Vector;
    fn cpBodySetVelocity(body: Object, velocity: Vector);
    fn cpBodySetAngle(body: Object, angle: f64);
    fn cpBodyGetAngle(body: Object) -> f64;
    fn cpBodyEachArbiter(body: Object, visitor: ArbiterVisitor, data: *mut c_void);
    fn cpSegmentShapeNew(body: Object, a: Vector, b: Vector, radius: f64) -> Object;
    fn cpCircleShapeNew(body: Object, radius: f64, offset: Vector) -> Object;
    fn cpPolyShapeNew(
        body: Object,
        count: i32,
        corners: *const Vector,
        transform: Transform,
        radius: f64,
    ) -> Object;
    fn cpShapeFree(shape: Object);
}

/// Adds one to the count that `data` points to.
///
/// # Safety
/// `data` must point to a `usize` that nothing else uses meanwhile.
unsafe extern "C" fn count_one(_body: Object, _arbiter: Object, data: *mut c_void) {
    // SAFETY: promised by the caller.
    unsafe { *data.cast::<usize>() += 1 }
}

fn vector([x, y]: [f64; 2]) -> Vector {
    Vector { x, y }
}

/// What is pushed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block<'a> {
    /// Parts as `[left, top, right, bottom]`.
    pub rectangles: &'a [[f64; 4]],
    /// Centre of gravity.
    pub centre: [f64; 2],
    /// Moment of inertia; the mass is 1.
    pub moment: f64,
}

/// Agent, block and walls in a space of their own.
pub struct Space {
    handle: NonNull<c_void>,
    agent: Object,
    block: Object,
    shapes: Vec<Object>,
    position: [f64; 2],
    velocity: [f64; 2],
    /// The largest number of pairs that touched in one substep of the last step.
    most_pairs: usize,
}

impl Space {
    /// A new space in a state: agent x, y, block x, y, angle, agent velocity; then a substep, as in the reference.
    ///
    /// # Panics
    /// When the library has no memory.
    pub fn new(block: &Block, state: [f64; 7]) -> Self {
        let [x, y, block_x, block_y, angle, velocity_x, velocity_y] = state;
        // SAFETY: every pointer below comes from the library, is used only while its space lives, and is freed once,
        // in `drop`. `corners` lives through the call that copies it.
        unsafe {
            let space = cpSpaceNew();
            let mut made = Self {
                handle: NonNull::new(space).expect("memory for a space"),
                agent: cpSpaceAddBody(space, cpBodyNewKinematic()),
                block: std::ptr::null_mut(),
                shapes: Vec::new(),
                position: [x, y],
                velocity: [velocity_x, velocity_y],
                most_pairs: 0,
            };
            cpSpaceSetDamping(space, 0.0);
            let still = cpSpaceGetStaticBody(space);
            for [a, b] in [
                [[5.0, 506.0], [5.0, 5.0]],
                [[5.0, 5.0], [506.0, 5.0]],
                [[506.0, 5.0], [506.0, 506.0]],
                [[5.0, 506.0], [506.0, 506.0]],
            ] {
                made.add(cpSegmentShapeNew(still, vector(a), vector(b), 2.0));
            }
            made.add(cpCircleShapeNew(made.agent, 15.0, vector([0.0; 2])));
            made.block = cpSpaceAddBody(space, cpBodyNew(1.0, block.moment));
            for [left, top, right, bottom] in block.rectangles {
                let corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
                let corners = corners.map(|[x, y]| vector([*x, *y]));
                made.add(cpPolyShapeNew(
                    made.block,
                    4,
                    corners.as_ptr(),
                    IDENTITY,
                    0.0,
                ));
            }
            cpBodySetCenterOfGravity(made.block, vector(block.centre));
            cpBodySetVelocity(made.agent, vector(made.velocity));
            cpBodySetPosition(made.agent, vector(made.position));
            cpBodySetAngle(made.block, angle);
            cpBodySetPosition(made.block, vector([block_x, block_y]));
            made.substep();
            made
        }
    }

    /// # Safety
    /// `shape` must be new and of this library.
    unsafe fn add(&mut self, shape: Object) {
        // SAFETY: promised by the caller; the space lives as long as `self`.
        self.shapes
            .push(unsafe { cpSpaceAddShape(self.handle.as_ptr(), shape) });
    }

    /// One environment step of ten substeps towards a target relative to the agent, in units of 100 pixels.
    pub fn step(&mut self, action: [f64; 2]) {
        let target = [0, 1].map(|axis| self.position[axis] + action[axis] * 100.0);
        self.most_pairs = 0;
        for _ in 0..10 {
            for ((velocity, position), target) in
                self.velocity.iter_mut().zip(self.position).zip(target)
            {
                let acceleration = 100.0 * (target - position) + 20.0 * (0.0 - *velocity);
                *velocity += acceleration * 0.01;
            }
            // SAFETY: the body lives as long as `self`.
            unsafe { cpBodySetVelocity(self.agent, vector(self.velocity)) };
            self.substep();
        }
    }

    fn substep(&mut self) {
        let mut pairs = 0_usize;
        // SAFETY: space and bodies live as long as `self`; `pairs` outlives the visit, and only the visitor uses it.
        unsafe {
            cpSpaceStep(self.handle.as_ptr(), 0.01);
            let Vector { x, y } = cpBodyGetPosition(self.agent);
            self.position = [x, y];
            cpBodyEachArbiter(self.block, count_one, (&raw mut pairs).cast());
        }
        self.most_pairs = self.most_pairs.max(pairs);
    }

    /// Agent x, y, block x, y, angle (not reduced), agent velocity.
    pub fn state(&self) -> [f64; 7] {
        // SAFETY: the body lives as long as `self`.
        let (block, angle) = unsafe { (cpBodyGetPosition(self.block), cpBodyGetAngle(self.block)) };
        let ([x, y], [velocity_x, velocity_y]) = (self.position, self.velocity);
        [x, y, block.x, block.y, angle, velocity_x, velocity_y]
    }

    /// The largest number of pairs that touched in one substep of the last step, or of the reset.
    pub fn most_pairs(&self) -> usize {
        self.most_pairs
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // SAFETY: everything was made in `new` and is freed here only, the space first: it refers to the others.
        unsafe {
            cpSpaceFree(self.handle.as_ptr());
            for shape in &self.shapes {
                cpShapeFree(*shape);
            }
            cpBodyFree(self.agent);
            cpBodyFree(self.block);
        }
    }
}
