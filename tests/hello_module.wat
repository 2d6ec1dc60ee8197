;; A core module: a WASI command that greets each of its arguments. Only LocalServer runs it, for every protocol.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  ;; 0: number of arguments, 4: their size, 8 and 12: one iovec, 16: bytes written,
  ;; 32: "Hello, ", 40: line feed, 1024: pointers to the arguments, 65536: the arguments
  (data (i32.const 32) "Hello, ")
  (data (i32.const 40) "!\n")

  (func $write (param $text i32) (param $size i32)
    (i32.store (i32.const 8) (local.get $text))
    (i32.store (i32.const 12) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16))))

  (func $length (param $text i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $text))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $end) (local.get $text)))

  (func (export "_start")
    (local $index i32)
    (local $argument i32)
    (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (drop (call $args_get (i32.const 1024) (i32.const 65536)))
    (local.set $index (i32.const 1))  ;; argument 0 is the program's own name
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $index) (i32.load (i32.const 0))))
        (local.set $argument
          (i32.load (i32.add (i32.const 1024) (i32.mul (local.get $index) (i32.const 4)))))
        (call $write (i32.const 32) (i32.const 7))
        (call $write (local.get $argument) (call $length (local.get $argument)))
        (call $write (i32.const 40) (i32.const 2))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))))
