//! Finding a place for a label that covers no marker, line or other label.

/// A rectangle in the drawing's units, y downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Box2 {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Box2 {
    pub fn new(left: f64, top: f64, right: f64, bottom: f64) -> Self {
        Box2 { left, top, right, bottom }
    }

    pub fn around(x: f64, y: f64, half: f64) -> Self {
        Box2::new(x - half, y - half, x + half, y + half)
    }

    /// With room to either side, so that neighbouring numbers do not read as one.
    pub fn wider(self, by: f64) -> Self {
        Box2 { left: self.left - by, right: self.right + by, ..self }
    }

    pub fn overlaps(&self, other: &Box2) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn within(&self, area: &Box2) -> bool {
        self.left >= area.left
            && self.right <= area.right
            && self.top >= area.top
            && self.bottom <= area.bottom
    }
}

/// The first free place around `at` for a label of `size` (width, height), none when all are taken.
pub fn place(at: (f64, f64), size: (f64, f64), area: &Box2, taken: &[Box2]) -> Option<Box2> {
    const GAP: f64 = 7.0;
    let (x, y) = at;
    let (width, height) = size;
    let centre = x - width / 2.0;
    let corners = [
        (centre, y - GAP - height),
        (centre, y + GAP),
        (x + GAP + 1.0, y - height / 2.0),
        (x - GAP - 1.0 - width, y - height / 2.0),
        (x + GAP, y - GAP - height),
        (x + GAP, y + GAP),
        (x - GAP - width, y - GAP - height),
        (x - GAP - width, y + GAP),
    ];
    corners
        .into_iter()
        .map(|(left, top)| Box2::new(left, top, left + width, top + height))
        .find(|place| place.within(area) && !taken.iter().any(|other| place.overlaps(other)))
}
