//! Deadlines, retry budget, breaker, admission and limits; knows no word of recommendation.
