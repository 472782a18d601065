// SPDX-License-Identifier: MIT
//
// exceptions.cc: C++ in coroutines that are stopped at any instruction, and that
// park inside catch blocks and destructors. check_cxx.sh compiles and runs it.
//
// The C++ runtime keeps per thread which exceptions are being handled. Each check
// says what would be found if that were another coroutine's.
//
// usage: exceptions [SECONDS]    exit status 0: all was right
#include <weft.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

enum { WORKERS = 16 };
std::atomic<unsigned long> units, unwound;
int64_t end_time;
weft_wg_t wg;

void die(const char *what, int line)
{
    std::fprintf(stderr, "exceptions: line %d: %s\n", line, what);
    std::abort();
}
#define OK(x) ((x) ? (void)0 : die(#x, __LINE__))

struct Trouble : std::runtime_error {
    int owner, number;
    Trouble(int o, int n) : std::runtime_error("trouble " + std::to_string(n)), owner(o), number(n) {}
};

struct Guard {
    int *count;
    explicit Guard(int *c) : count(c) { ++*count; }
    ~Guard()
    {
        --*count;
        unwound++;
    }
};

// Parks while an exception is in flight.
struct Parker {
    int owner;
    explicit Parker(int o) : owner(o) {}
    ~Parker()
    {
        int before = std::uncaught_exceptions();
        weft_sleep(20000);
        OK(std::uncaught_exceptions() == before);
    }
};

__attribute__((noinline)) void fall(int owner, int depth, int *guards)
{
    Guard g(guards);
    std::string local(static_cast<size_t>(depth) * 7, 'x');
    if (depth == 0)
        throw Trouble(owner, owner * 1000);
    fall(owner, depth - 1, guards);
    OK(local.size() == static_cast<size_t>(depth) * 7);
}

void plain(int owner)
{
    for (int depth = 0; depth < 20; depth++) {
        int guards = 0;
        bool caught = false;
        try {
            fall(owner, depth, &guards);
        } catch (const Trouble &t) {
            OK(t.owner == owner && t.number == owner * 1000);
            OK(t.what() == "trouble " + std::to_string(owner * 1000));
            caught = true;
        }
        OK(caught && guards == 0);
        OK(std::uncaught_exceptions() == 0 && !std::current_exception());
    }
}

// Parks in a catch block, throws and catches another there, then throws the first again.
void in_catch(int owner)
{
    int seen = 0;
    try {
        try {
            throw Trouble(owner, 1);
        } catch (const Trouble &) {
            weft_sleep(30000);
            try {
                throw Trouble(owner, 2);
            } catch (const Trouble &inner) {
                weft_yield();
                OK(inner.owner == owner && inner.number == 2);
                seen++;
            }
            weft_yield();
            throw; // the outer one, of this coroutine
        }
    } catch (const Trouble &t) {
        OK(t.owner == owner && t.number == 1);
        std::exception_ptr kept = std::current_exception();
        OK(kept != nullptr);
        weft_sleep(10000);
        try {
            std::rethrow_exception(kept);
        } catch (const Trouble &again) {
            OK(again.owner == owner && again.number == 1);
            seen++;
        }
    }
    OK(seen == 2 && std::uncaught_exceptions() == 0 && !std::current_exception());
}

void in_flight(int owner)
{
    try {
        Parker p(owner);
        throw Trouble(owner, 3);
    } catch (const Trouble &t) {
        OK(t.owner == owner && t.number == 3);
    }
    OK(std::uncaught_exceptions() == 0);
}

void library(int owner)
{
    std::map<std::string, std::shared_ptr<std::vector<int>>> m;
    for (int i = 0; i < 50; i++) {
        std::ostringstream out;
        out << owner << ':' << i << ' ' << 0.5 * i;
        auto v = std::make_shared<std::vector<int>>(static_cast<size_t>(i), owner);
        m[out.str()] = v;
    }
    OK(m.size() == 50);
    for (auto &entry : m) {
        for (int x : *entry.second)
            OK(x == owner);
    }
    bool caught = false;
    try {
        std::vector<int>(3).at(7) = owner;
    } catch (const std::out_of_range &) {
        caught = true;
    }
    OK(caught);
}

void worker(void *arg)
{
    int owner = static_cast<int>(reinterpret_cast<intptr_t>(arg));
    while (weft_now() < end_time) {
        plain(owner);
        in_catch(owner);
        in_flight(owner);
        library(owner);
        units++;
        if (units % 7 == 0)
            weft_yield();
    }
    weft_wg_done(&wg);
}

int entry(void *arg)
{
    end_time = weft_now() + static_cast<int64_t>(std::atof(static_cast<char *>(arg)) * 1e9);
    weft_wg_add(&wg, WORKERS);
    for (intptr_t i = 0; i < WORKERS; i++)
        OK(weft_go(worker, reinterpret_cast<void *>(i + 1)) == 0);
    weft_wg_wait(&wg);
    weft_stats_t s;
    OK(weft_stats(&s) == 0);
    std::printf("handed over %llu; ", static_cast<unsigned long long>(s.preempt_handed));
    return 0;
}

} // namespace

int main(int argc, char **argv)
{
    char two[] = "2";
    weft_config_t cfg = {};
    cfg.procs = 2;
    int rc = weft_run_with(&cfg, entry, argc > 1 ? argv[1] : two);
    std::printf("%lu units, %lu objects unwound\n", units.load(), unwound.load());
    return rc == 0 && units > 0 ? 0 : 1;
}
