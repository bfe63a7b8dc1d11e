//! Lets what arrives at the same time go together.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

/// Items in one batch.
const BATCH: usize = 256;
/// Bytes in one batch, unless one item alone has more.
const BATCH_BYTES: usize = 1 << 20;

/// Gathers items of type `T`, each of which has an answer of type `R`. A single item goes
/// at once; when many come, each batch has what came while those before it were under
/// way (group commit).
pub struct Gathering<T, R> {
    waiting: Mutex<VecDeque<Item<T, R>>>,
    turns: Arc<Semaphore>,
}

struct Item<T, R> {
    item: T,
    bytes: usize,
    answer: oneshot::Sender<R>,
}

impl<T: Send + 'static, R: Send + 'static> Gathering<T, R> {
    /// With so many batches under way at a time: what arrives meanwhile goes with the next.
    pub fn new(under_way: usize) -> Self {
        Self { waiting: Mutex::default(), turns: Arc::new(Semaphore::new(under_way)) }
    }

    /// The answer to `item`, which has so many bytes. `run` is called with what one batch
    /// has, perhaps without this item, and gives the answers in the same order; it runs as
    /// a task of its own, and should end in time. `None`: it ended without an answer. If
    /// the caller goes away before the item is in a batch, it never is.
    pub async fn add<F>(&self, handle: &Handle, item: T, bytes: usize, run: impl Fn(Vec<T>) -> F) -> Option<R>
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let (answer, mut answered) = oneshot::channel();
        self.lock().push_back(Item { item, bytes, answer });
        loop {
            let turn = tokio::select! {
                biased;
                answer = &mut answered => return answer.ok(),
                turn = self.turns.clone().acquire_owned() => turn.expect("it is never closed"),
            };
            let (items, answers) = self.next_batch();
            if items.is_empty() {
                drop(turn);
                return answered.await.ok();
            }
            let answering = run(items);
            handle.spawn(async move {
                for (answer, result) in answers.into_iter().zip(answering.await) {
                    // An error means that nobody waits for it any more.
                    let _ = answer.send(result);
                }
                drop(turn);
            });
        }
    }

    fn next_batch(&self) -> (Vec<T>, Vec<oneshot::Sender<R>>) {
        let mut waiting = self.lock();
        let (mut items, mut answers, mut sum) = (Vec::new(), Vec::new(), 0);
        while items.len() < BATCH
            && let Some(next) = waiting.front()
            && (items.is_empty() || sum + next.bytes <= BATCH_BYTES)
        {
            let Some(Item { item, bytes, answer }) = waiting.pop_front() else { break };
            if !answer.is_closed() {
                sum += bytes;
                items.push(item);
                answers.push(answer);
            }
        }
        (items, answers)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Item<T, R>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use std::time::Duration;

    type Batches = Arc<Mutex<Vec<Vec<u32>>>>;

    /// Notes each batch, takes a moment for it, and answers with ten times the item.
    fn slowly(batches: &Batches) -> impl Fn(Vec<u32>) -> futures::future::BoxFuture<'static, Vec<u32>> + use<> {
        let batches = batches.clone();
        move |items| {
            batches.lock().unwrap().push(items.clone());
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                items.iter().map(|item| item * 10).collect()
            })
        }
    }

    #[tokio::test]
    async fn what_comes_while_others_are_under_way_goes_together_and_each_has_its_answer() {
        let (gathering, batches) = (Gathering::new(2), Batches::default());
        let handle = Handle::current();
        let all = (0..1000).map(|n| gathering.add(&handle, n, 1, slowly(&batches)));
        let answers: Vec<_> = join_all(all).await;
        assert_eq!(answers, (0..1000).map(|n| Some(n * 10)).collect::<Vec<_>>());
        let sizes: Vec<usize> = batches.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, BATCH, BATCH, BATCH, 1000 - 2 - 3 * BATCH]);
        assert!(batches.lock().unwrap().concat().into_iter().eq(0..1000), "in order");
    }

    #[tokio::test]
    async fn a_batch_is_bounded_in_bytes_and_always_gets_on() {
        let (gathering, batches) = (Gathering::new(2), Batches::default());
        let handle = Handle::current();
        let bytes = [1, 1, 2 * BATCH_BYTES, 1, BATCH_BYTES - 1, 1];
        join_all(bytes.iter().enumerate().map(|(n, bytes)| gathering.add(&handle, n as u32, *bytes, slowly(&batches))))
            .await;
        assert_eq!(*batches.lock().unwrap(), [vec![0], vec![1], vec![2], vec![3, 4], vec![5]]);
    }

    #[tokio::test]
    async fn an_item_whose_caller_is_gone_is_in_no_later_batch() {
        let (gathering, batches) = (Gathering::new(2), Batches::default());
        let handle = Handle::current();
        let patience = Duration::from_millis(10);
        let all = (0..4).map(|n| tokio::time::timeout(patience, gathering.add(&handle, n, 1, slowly(&batches))));
        assert!(join_all(all).await.iter().all(Result::is_err));
        assert_eq!(gathering.add(&handle, 9, 1, slowly(&batches)).await, Some(90));
        assert_eq!(*batches.lock().unwrap(), [[0], [1], [9]]);
    }

    #[tokio::test]
    async fn who_gets_no_answer_is_told_so() {
        let gathering = Gathering::<u32, u32>::new(1);
        assert_eq!(gathering.add(&Handle::current(), 1, 1, |_| async { Vec::new() }).await, None);
    }
}
