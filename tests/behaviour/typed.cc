// SPDX-License-Identifier: MIT
//
// typed.cc: <weft/typed.h> in C++. A pool of workers gets jobs through one typed channel and
// answers through another, beside a select and elements that are classes.
// check_cxx.sh compiles and runs it.
//
// usage: typed      exit status 0: all was right
#include <weft/typed.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>

namespace {

enum { WORKERS = 4, JOBS = 1000 };

// Trivially copyable, though no C struct.
class Job
{
  public:
    Job() = default;
    explicit Job(int n) : n_(n) {}
    int number() const { return n_; }

  private:
    int n_ = -1;
};

struct Answer {
    Job job;
    long square;
};

WEFT_CHAN(jobs, Job);
WEFT_CHAN(answers, Answer);
WEFT_CHAN(words, const char *);

struct Worker {
    jobs_rx_t in;
    answers_tx_t out;
    weft_wg_t *done;
};

void die(const char *what, int line)
{
    std::fprintf(stderr, "typed: line %d: %s\n", line, what);
    std::abort();
}
#define OK(x) ((x) ? static_cast<void>(0) : die(#x, __LINE__))

void work(void *arg)
{
    Worker *w = static_cast<Worker *>(arg);
    Job job;
    while (jobs_recv(w->in, &job) == 1)
        OK(answers_send(w->out, {job, static_cast<long>(job.number()) * job.number()}) == 0);
    OK(weft_wg_done(w->done) == 0);
}

void produce(void *arg)
{
    jobs_tx_t out = *static_cast<jobs_tx_t *>(arg);
    for (int i = 0; i < JOBS; i++)
        OK(jobs_send(out, Job(i)) == 0);
    OK(jobs_close(out) == 0);
}

void pool()
{
    jobs_t jobs = jobs_make(0);
    answers_t answers = answers_make(8);
    weft_wg_t done = {};
    OK(jobs.chan != nullptr && answers.chan != nullptr);
    Worker w = {jobs.rx, answers.tx, &done};
    OK(weft_wg_add(&done, WORKERS) == 0);
    for (int i = 0; i < WORKERS; i++)
        OK(weft_go(work, &w) == 0);
    OK(weft_go(produce, &jobs.tx) == 0);

    std::map<int, long> got;
    for (int i = 0; i < JOBS; i++) {
        Answer a = {};
        OK(answers_recv(answers.rx, &a) == 1);
        got[a.job.number()] = a.square;
    }
    OK(weft_wg_wait(&done) == 0);
    OK(got.size() == JOBS);
    for (const auto &[number, square] : got)
        OK(square == static_cast<long>(number) * number);
    jobs_unref(jobs);
    answers_unref(answers);
}

void chosen()
{
    jobs_t jobs = jobs_make(1);
    words_t words = words_make(1);
    const Job three(3);
    Job job;
    const char *word = nullptr;
    weft_case_t cases[] = {jobs_case_recv(jobs.rx, &job), words_case_recv(words.rx, &word)};
    OK(weft_try_select(cases, 2) == -EAGAIN);
    weft_case_t send = jobs_case_send(jobs.tx, &three);
    OK(weft_select(&send, 1, 0) == 0);
    OK(weft_select(cases, 2, 0) == 0 && job.number() == 3);
    OK(words_send(words.tx, "weft") == 0);
    OK(weft_select(cases, 2, 0) == 1 && word[0] == 'w');
    jobs_unref(jobs);
    words_unref(words);
}

int run(void *)
{
    pool();
    chosen();
    jobs_t nil = {};
    OK(jobs_try_send(nil.tx, Job(1)) == -EAGAIN);
    return 0;
}

} // namespace

int main()
{
    if (weft_run(run, nullptr) != 0)
        return 1;
    std::printf("%d jobs by %d workers\n", JOBS, WORKERS);
    return 0;
}
