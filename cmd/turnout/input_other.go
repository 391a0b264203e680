//go:build !linux

package main

func forgetTyped() {}
