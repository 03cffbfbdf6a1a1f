// The start of a program in Go: the runtime seeds its maps, starts its scheduler and its clocks. See start.c.
package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"sort"
	"time"
)

func yes(condition bool) string {
	if condition {
		return "yes"
	}
	return "no"
}

func main() {
	counts := map[string]int{}
	for _, word := range os.Args[1:] {
		counts[word]++
	}
	words := []string{}
	for word := range counts {
		words = append(words, word)
	}
	sort.Strings(words)
	for _, word := range words {
		fmt.Println(word, counts[word])
	}
	name, found := os.LookupEnv("NAME")
	if !found {
		name = "-"
	}
	fmt.Println("NAME", name)
	input, err := io.ReadAll(os.Stdin)
	check(err)
	fmt.Println("lines", bytes.Count(input, []byte("\n")))

	check(os.WriteFile("/data/note", []byte("from Go\n"), 0o644))
	note, err := os.ReadFile("/data/note")
	check(err)
	fmt.Print("note ", string(note))

	before := time.Now()
	time.Sleep(5 * time.Millisecond)
	fmt.Println("slept", yes(time.Since(before) >= 5*time.Millisecond))
	fmt.Println("date", yes(time.Now().Unix() > 1700000000))

	random := make(chan [8]byte)
	go func() {
		var bytes [8]byte
		rand.Read(bytes[:])
		random <- bytes
	}()
	fmt.Printf("random %x\n", <-random)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
