// SPDX-License-Identifier: MIT
//
// latency.go: the work of tools/bench/latency.c in Go: same options, same lines.
// Change both or neither.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

const samplesMax = 200000

var (
	procs   = flag.Int("p", 2, "GOMAXPROCS")
	nhogs   = flag.Int("h", 4, "busy goroutines")
	seconds = flag.Float64("s", 3, "seconds for each figure")
	samples = make([]int64, 0, samplesMax)
	stop    uint32
	sink    uint64
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "latency:", err)
		os.Exit(2)
	}
}

func report(name string) {
	sort.Slice(samples, func(i, j int) bool { return samples[i] < samples[j] })
	n := len(samples)
	for _, q := range []struct {
		name     string
		permille int
	}{{"p50", 500}, {"p99", 990}, {"p999", 999}, {"max", 1000}} {
		at := n * q.permille / 1000
		if at >= n {
			at = n - 1
		}
		fmt.Printf("%s_%s\t%d\t%d\t%d\n", name, q.name, *procs, samples[at], n)
	}
	samples = samples[:0]
}

func hog(wg *sync.WaitGroup) {
	x := uint64(1)
	for atomic.LoadUint32(&stop) == 0 {
		x = x*6364136223846793005 + 1442695040888963407
	}
	atomic.StoreUint64(&sink, x)
	wg.Done()
}

func until() time.Time {
	return time.Now().Add(time.Duration(*seconds * 1e9))
}

func sleeps() {
	for end := until(); time.Now().Before(end) && len(samples) < samplesMax; {
		due := time.Now().Add(time.Millisecond)
		time.Sleep(time.Millisecond)
		samples = append(samples, int64(time.Since(due)))
	}
	report("sleep1ms")
}

func echoServer(ln net.Listener) {
	c, err := ln.Accept()
	check(err)
	b := make([]byte, 1)
	for {
		if n, err := c.Read(b); n != 1 || err != nil {
			break
		}
		_, err := c.Write(b)
		check(err)
	}
	c.Close()
}

func echoes() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go echoServer(ln)
	c, err := net.Dial("tcp", ln.Addr().String())
	check(err)
	b := make([]byte, 1)
	for end := until(); time.Now().Before(end) && len(samples) < samplesMax; {
		begin := time.Now()
		_, err := c.Write(b)
		check(err)
		_, err = c.Read(b)
		check(err)
		samples = append(samples, int64(time.Since(begin)))
		time.Sleep(200 * time.Microsecond)
	}
	c.Close()
	ln.Close()
	report("echo")
}

func main() {
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	var wg sync.WaitGroup
	wg.Add(*nhogs)
	for i := 0; i < *nhogs; i++ {
		go hog(&wg)
	}
	time.Sleep(50 * time.Millisecond)
	sleeps()
	echoes()
	atomic.StoreUint32(&stop, 1)
	wg.Wait()
}
