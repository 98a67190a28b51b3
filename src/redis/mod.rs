//! Redis with limits, retries and a breaker around it, and limits that many machines share.
