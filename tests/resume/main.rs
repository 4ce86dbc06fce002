//! Runs that end early and go on: the same bits as one that never stopped, and what is in the way of that.

mod best;
mod damage;
mod equality;
mod nonfinite;
mod tiny;
