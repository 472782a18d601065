// SPDX-License-Identifier: MIT
//
// gobench: the work of tools/bench/bench.c in Go, under the same names, options
// and output. Change both or neither.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	_ "unsafe" // for go:linkname
)

var (
	procs       = flag.Int("p", 1, "GOMAXPROCS")
	repetitions = flag.Int("r", 5, "repetitions")
	parkedN     = flag.Int("n", 100000, "parked goroutines")
)

func report(name string, v []float64) {
	sort.Float64s(v)
	fmt.Printf("%s\t%d\t%.3f\t%.3f\n", name, *procs, v[len(v)/2], v[0])
}

func yield(n int) {
	var wg sync.WaitGroup
	wg.Add(2)
	for k := 0; k < 2; k++ {
		go func() {
			for i := 0; i < n/2; i++ {
				runtime.Gosched()
			}
			wg.Done()
		}()
	}
	wg.Wait()
}

func turnsOf(name string, k int) {
	const warm, count, stop = 0, 1, 2
	var v []float64
	for r := 0; r < *repetitions; r++ {
		var in, out sync.WaitGroup
		var phase int32
		var yields int64
		in.Add(k)
		out.Add(k)
		for i := 0; i < k; i++ {
			go func() {
				n := int64(0)
				in.Done()
				for p := atomic.LoadInt32(&phase); p != stop; p = atomic.LoadInt32(&phase) {
					runtime.Gosched()
					if p == count {
						n++
					}
				}
				atomic.AddInt64(&yields, n)
				out.Done()
			}()
		}
		in.Wait()
		time.Sleep(100 * time.Millisecond)
		t := time.Now()
		atomic.StoreInt32(&phase, count)
		time.Sleep(500 * time.Millisecond)
		atomic.StoreInt32(&phase, stop)
		ns := float64(time.Since(t).Nanoseconds())
		out.Wait()
		v = append(v, ns/float64(yields))
	}
	report(name, v)
}

var (
	ring    []chan int
	ringEnd chan int
	ringWg  sync.WaitGroup
)

func ringBefore(k int) {
	ring, ringEnd = nil, make(chan int, 1)
	for i := 0; i < k; i++ {
		ring = append(ring, make(chan int, 1))
	}
	ringWg.Add(k)
	for i := 0; i < k; i++ {
		go func(mine, next chan int) {
			for left := range mine {
				if left--; left == 0 {
					ringEnd <- left
				} else {
					next <- left
				}
			}
			ringWg.Done()
		}(ring[i], ring[(i+1)%k])
	}
}

func ringRun(n int) {
	ring[0] <- n
	<-ringEnd
}

func ringAfter() {
	for _, c := range ring {
		close(c)
	}
	ringWg.Wait()
}

func pingpong(n int) {
	a, b := make(chan int), make(chan int)
	var wg sync.WaitGroup
	wg.Add(2)
	go func() {
		for i := 0; i < n; i++ {
			a <- i
			<-b
		}
		wg.Done()
	}()
	go func() {
		for i := 0; i < n; i++ {
			b <- <-a
		}
		wg.Done()
	}()
	wg.Wait()
}

func buffered(n int) {
	c := make(chan int, 100)
	for i := 0; i < n; i++ {
		c <- i
		<-c
	}
}

func select2(n int) {
	a, b := make(chan int, 1), make(chan int, 1)
	a <- 1
	for i := 0; i < n; i++ {
		select {
		case v := <-a:
			b <- v
		case v := <-b:
			a <- v
		}
	}
}

func spawn(n int) {
	for i := 0; i < n; i += 100 {
		var wg sync.WaitGroup
		wg.Add(100)
		for j := 0; j < 100; j++ {
			go func() { wg.Done() }()
		}
		wg.Wait()
	}
}

func sky(c chan int64, num, size int64) {
	if size == 1 {
		c <- num
		return
	}
	rc := make(chan int64)
	for i := int64(0); i < 10; i++ {
		go sky(rc, num+i*(size/10), size/10)
	}
	var sum int64
	for i := 0; i < 10; i++ {
		sum += <-rc
	}
	c <- sum
}

func skynet(n int) {
	for i := 0; i < n; i++ {
		c := make(chan int64)
		go sky(c, 0, 1000000)
		if <-c != 499999500000 {
			panic("skynet: wrong sum")
		}
	}
}

func timer(n int) {
	for i := 0; i < n; i++ {
		time.AfterFunc(time.Hour, func() {}).Stop()
	}
}

var idle []*time.Timer

func timerIdleBefore() {
	for i := 0; i < 32768; i++ {
		idle = append(idle, time.AfterFunc(time.Hour+time.Duration(i)*time.Second, func() {}))
	}
}

func timerIdleAfter() {
	for _, t := range idle {
		t.Stop()
	}
	idle = nil
}

var mu sync.Mutex

func mutex(n int) {
	for i := 0; i < n; i++ {
		mu.Lock()
		mu.Unlock()
	}
}

func mutex4(n int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := 0
	for i := 0; i < 4; i++ {
		wg.Add(1)
		go func() {
			for k := 0; k < n/4; k++ {
				mu.Lock()
				count++
				mu.Unlock()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	if count != n/4*4 {
		panic("the count under the mutex")
	}
}

var rw sync.RWMutex

func rlock(n int) {
	for i := 0; i < n; i++ {
		rw.RLock()
		rw.RUnlock()
	}
}

func rwlock(n int) {
	for i := 0; i < n; i++ {
		rw.Lock()
		rw.Unlock()
	}
}

var group sync.WaitGroup

func waitGroup(n int) {
	for i := 0; i < n; i++ {
		group.Add(1)
		group.Done()
		group.Wait()
	}
}

// What golang.org/x/sync/errgroup does for a function that has no error, on top of sync.WaitGroup.Go.
func errorGroup(n int) {
	for i := 0; i < n; i += 100 {
		var wg sync.WaitGroup
		var once sync.Once
		var first error
		for k := 0; k < 100; k++ {
			wg.Go(func() {
				if err := member(); err != nil {
					once.Do(func() { first = err })
				}
			})
		}
		wg.Wait()
		if first != nil {
			panic("no error")
		}
	}
}

//go:noinline
func member() error {
	return nil
}

var only sync.Once

func once(n int) {
	for i := 0; i < n; i++ {
		only.Do(func() {})
	}
}

var sem = make(chan struct{}, 1)

func semaphore(n int) {
	for i := 0; i < n; i++ {
		sem <- struct{}{}
		<-sem
	}
}

func cond(n int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	turn := 0
	side := [2]*sync.Cond{sync.NewCond(&mu), sync.NewCond(&mu)}
	for me := 0; me < 2; me++ {
		wg.Add(1)
		go func(me int) {
			mu.Lock()
			for turn < n {
				if turn%2 != me {
					side[me].Wait()
					continue
				}
				turn++
				side[1-me].Signal()
			}
			side[1-me].Signal()
			mu.Unlock()
			wg.Done()
		}(me)
	}
	wg.Wait()
}

// What package syscall itself calls; by itself, as in Go's BenchmarkSyscall. The
// empty assembly file beside this one lets functions be without a body.
//
//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

func syscallPair(n int) {
	for i := 0; i < n; i++ {
		entersyscall()
		exitsyscall()
	}
}

func getppids(declared bool) float64 {
	t := time.Now()
	if declared {
		for i := 0; i < 1000; i++ {
			syscall.Syscall(syscall.SYS_GETPPID, 0, 0, 0)
		}
	} else {
		for i := 0; i < 1000; i++ {
			syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
		}
	}
	return float64(time.Since(t).Nanoseconds())
}

func syscallCall() {
	var v []float64
	for r := 0; r < *repetitions; r++ {
		var with, without float64
		for i := 0; i < 500; i++ {
			without += getppids(false)
			with += getppids(true)
		}
		v = append(v, (with-without)/1000/500)
	}
	report("syscall_call", v)
}

func sleep50() {
	late := make([]float64, 1000)
	var p50, p99 []float64
	for r := 0; r < *repetitions; r++ {
		for i := range late {
			due := time.Now().Add(50 * time.Microsecond)
			time.Sleep(50 * time.Microsecond)
			late[i] = float64(time.Since(due).Nanoseconds())
		}
		sort.Float64s(late)
		p50 = append(p50, late[len(late)/2])
		p99 = append(p99, late[len(late)*99/100])
	}
	report("sleep50_p50", p50)
	report("sleep50_p99", p99)
}

// Resident memory with page tables.
func resident() float64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	var kib, v float64
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, _ := fmt.Sscanf(s.Text(), "VmRSS: %f", &v); k == 1 {
			kib += v
		} else if k, _ := fmt.Sscanf(s.Text(), "VmPTE: %f", &v); k == 1 {
			kib += v
		}
	}
	return kib * 1024
}

func ctxTree(n int) {
	const kids, waiters = 100, 10
	var kid [kids]context.Context
	var stop [kids]context.CancelFunc
	var in, out sync.WaitGroup
	for i := 0; i < n; i++ {
		parent, cancel := context.WithCancel(context.Background())
		for k := range kid {
			kid[k], stop[k] = context.WithCancel(parent)
		}
		in.Add(waiters)
		out.Add(waiters)
		for k := 0; k < waiters; k++ {
			ctx := kid[k*(kids/waiters)]
			go func() {
				in.Done()
				<-ctx.Done()
				out.Done()
			}()
		}
		in.Wait()
		cancel()
		out.Wait()
		if stop[0] == nil || kid[kids-1].Err() != context.Canceled {
			panic("the error of a child")
		}
	}
}

func ctxCancel(n int) {
	parent, cancelParent := context.WithCancel(context.Background())
	defer cancelParent()
	for i := 0; i < n; i++ {
		_, cancel := context.WithCancel(parent)
		cancel()
	}
}

func ctxDeadline(n int) {
	parent, cancelParent := context.WithCancel(context.Background())
	defer cancelParent()
	for i := 0; i < n; i++ {
		_, cancel := context.WithDeadline(parent, time.Now().Add(time.Hour))
		cancel()
	}
}

func ctxErr(n int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := 0; i < n; i++ {
		if ctx.Err() != nil {
			panic("no error")
		}
	}
}

type ctxKey int

func ctxValue(n int) {
	ctx := context.Background()
	for k := ctxKey(0); k < 10; k++ {
		ctx = context.WithValue(ctx, k, 1)
	}
	for i := 0; i < n; i++ {
		if ctx.Value(ctxKey(0)) == nil {
			panic("the value")
		}
	}
}

func parked() {
	n := float64(*parkedN)
	gate := make(chan struct{})
	var in, out sync.WaitGroup
	before := resident()
	t0 := time.Now()
	in.Add(*parkedN)
	out.Add(*parkedN)
	for i := 0; i < *parkedN; i++ {
		go func() {
			in.Done()
			<-gate
			out.Done()
		}()
	}
	in.Wait()
	create := float64(time.Since(t0).Nanoseconds()) / n
	time.Sleep(10 * time.Millisecond)
	each := (resident() - before) / n
	t2 := time.Now()
	close(gate)
	out.Wait()
	wake := float64(time.Since(t2).Nanoseconds()) / n
	report("parked_create", []float64{create})
	report("parked_bytes", []float64{each})
	report("parked_wake", []float64{wake})
}

type bench struct {
	name          string
	n             int
	run           func(int)
	before, after func()
	whole         func()
}

var benches = []bench{
	{name: "yield", n: 2000000, run: yield},
	{name: "yield1000", whole: func() { turnsOf("yield1000", 1000) }},
	{name: "yield100k", whole: func() { turnsOf("yield100k", 100000) }},
	{name: "ring1000", n: 1000000, run: ringRun, before: func() { ringBefore(1000) }, after: ringAfter},
	{name: "ring100k", n: 1000000, run: ringRun, before: func() { ringBefore(100000) }, after: ringAfter},
	{name: "pingpong", n: 1000000, run: pingpong},
	{name: "buffered", n: 5000000, run: buffered},
	{name: "select2", n: 3000000, run: select2},
	{name: "select2_new", n: 3000000, run: select2}, // weft's other way to write it
	{name: "spawn", n: 1000000, run: spawn},
	{name: "skynet", n: 1, run: skynet},
	{name: "timer", n: 1000000, run: timer},
	{name: "timer_idle", n: 1000000, run: timer, before: timerIdleBefore, after: timerIdleAfter},
	{name: "mutex", n: 5000000, run: mutex},
	{name: "mutex4", n: 2000000, run: mutex4},
	{name: "rlock", n: 5000000, run: rlock},
	{name: "rwlock", n: 5000000, run: rwlock},
	{name: "wg", n: 5000000, run: waitGroup},
	{name: "group", n: 1000000, run: errorGroup},
	{name: "once", n: 200000000, run: once},
	{name: "sem", n: 5000000, run: semaphore},
	{name: "cond", n: 1000000, run: cond},
	{name: "ctx_tree", n: 10000, run: ctxTree},
	{name: "ctx_cancel", n: 2000000, run: ctxCancel},
	{name: "ctx_deadline", n: 1000000, run: ctxDeadline},
	{name: "ctx_err", n: 20000000, run: ctxErr},
	{name: "ctx_value", n: 5000000, run: ctxValue},
	{name: "syscall", n: 10000000, run: syscallPair},
	{name: "syscall_call", whole: syscallCall},
	{name: "sleep50", whole: sleep50},
	{name: "parked", whole: parked},
}

func runBench(b bench) {
	if b.whole != nil {
		b.whole()
		return
	}
	if b.before != nil {
		b.before()
	}
	b.run(b.n/10 + 1)
	var v []float64
	for r := 0; r < *repetitions; r++ {
		t := time.Now()
		b.run(b.n)
		v = append(v, float64(time.Since(t).Nanoseconds())/float64(b.n))
	}
	if b.after != nil {
		b.after()
	}
	report(b.name, v)
}

func main() {
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	want := map[string]bool{}
	for _, name := range flag.Args() {
		want[name] = true
	}
	all := len(want) == 0
	for _, b := range benches {
		if all || want[b.name] {
			runBench(b)
		}
		delete(want, b.name)
	}
	for name := range want {
		fmt.Fprintln(os.Stderr, "gobench: no benchmark", name)
		os.Exit(2)
	}
}
