// SPDX-License-Identifier: MIT
//
// parked.go: the work of tools/bench/parked.c in Go: same arguments (copied and
// private mean nothing here), same lines. Change both or neither.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const words = 6

var (
	count   int
	procs   = 1
	sends   bool
	gate    = make(chan uint64)
	in, out sync.WaitGroup
	wrong   int64
	sum     int64
)

func check(ok bool, what string) {
	if !ok {
		fmt.Fprintln(os.Stderr, "parked:", what, "failed")
		os.Exit(1)
	}
}

// Not inlined, so that the compiler cannot know what is in the frame.
//
//go:noinline
func fill(frame *[words]uint64, number uint64) {
	for i := range frame {
		frame[i] = number + uint64(i)
	}
}

//go:noinline
func same(frame *[words]uint64, number uint64) bool {
	ok := true
	for i := range frame {
		ok = ok && frame[i] == number+uint64(i)
	}
	return ok
}

func parker(number uint64) {
	var frame [words]uint64
	fill(&frame, number)
	in.Done()
	v, got := <-gate
	if !same(&frame, number) || got != sends {
		atomic.AddInt64(&wrong, 1)
	}
	if got {
		atomic.AddInt64(&sum, int64(v))
	}
	out.Done()
}

func memory() (rss, pte float64) {
	f, err := os.Open("/proc/self/status")
	check(err == nil, "/proc/self/status")
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, _ := fmt.Sscanf(s.Text(), "VmRSS: %f", &rss); k != 1 {
			fmt.Sscanf(s.Text(), "VmPTE: %f", &pte)
		}
	}
	return rss * 1024, pte * 1024
}

func report(name string, v float64) {
	fmt.Printf("%s\t%d\t%.1f\t%d\n", name, procs, v, count)
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: parked N [copied|private] [close|send] [PROCS]")
	os.Exit(2)
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	count, _ = strconv.Atoi(os.Args[1])
	if count < 1 {
		usage()
	}
	for _, a := range os.Args[2:] {
		switch a {
		case "copied", "private":
		case "send", "close":
			sends = a == "send"
		default:
			if procs, _ = strconv.Atoi(a); procs < 1 {
				usage()
			}
		}
	}
	runtime.GOMAXPROCS(procs)
	n := float64(count)
	in.Add(count)
	out.Add(count)

	rss0, pte0 := memory()
	t := time.Now()
	for i := 0; i < count; i++ {
		go parker(uint64(i))
	}
	in.Wait()
	create := float64(time.Since(t).Nanoseconds())
	time.Sleep(10 * time.Millisecond)
	rss, pte := memory()
	report("parked_create", create/n)
	report("parked_rss", (rss-rss0)/n)
	report("parked_pte", (pte-pte0)/n)
	report("parked_mb", (rss-rss0+pte-pte0)/1e6)

	t = time.Now()
	if sends {
		for i := 0; i < count; i++ {
			gate <- uint64(i)
		}
	} else {
		close(gate)
	}
	out.Wait()
	report("parked_wake", float64(time.Since(t).Nanoseconds())/n)
	check(wrong == 0, "to find the frames as they were")
	want := 0
	if sends {
		want = count * (count - 1) / 2
	}
	check(sum == int64(want), "the sum of what was received")

	time.Sleep(2 * time.Second)
	rss, pte = memory()
	report("left_mb", (rss-rss0+pte-pte0)/1e6)
}
