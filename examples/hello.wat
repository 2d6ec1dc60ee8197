;; A program for a server of Pie 0.2: greets each of its arguments on its standard output, and returns "bye".
;;
;; It is a component: the imports and the export at the end are what the server and its programs agree on. The core
;; module in the middle is the code.
(component
  ;; Imports: an output stream of WASI 0.2, and what the server knows of this instance.
  (import "wasi:io/error@0.2.4" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $error))
  (import "wasi:io/streams@0.2.4" (instance $streams
    (export "output-stream" (type $output-stream (sub resource)))
    (alias outer 1 $error (type $outer-error))
    (export "error" (type $own-error (eq $outer-error)))
    (type $variant (variant (case "last-operation-failed" (own $own-error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $variant)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output-stream)) (param "contents" (list u8))
      (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stdout@0.2.4" (instance $stdout
    (alias outer 1 $output-stream (type $outer-stream))
    (export "output-stream" (type $own-stream (eq $outer-stream)))
    (export "get-stdout" (func (result (own $own-stream))))))
  (import "inferlet:core/runtime" (instance $runtime
    (export "get-arguments" (func (result (list string))))
    (export "set-return" (func (param "value" string)))))

  ;; The memory, in a module of its own since the imports need it. What comes in is stored one after the other.
  (core module $memory-module
    (memory (export "memory") 2)
    (global $free (mut i32) (i32.const 4096))
    (func (export "allocate") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32)
      (result i32)
      (local $address i32)
      (local.set $address (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $address) (local.get $size)))
      (block $enough
        (loop $more
          (br_if $enough (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
          (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
          (unreachable)))
      (local.get $address)))
  (core instance $memory (instantiate $memory-module))
  (alias core export $memory "memory" (core memory $bytes))
  (alias core export $memory "allocate" (core func $allocate))

  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $bytes) (realloc $allocate)))
  (core func $get-arguments (canon lower (func $runtime "get-arguments") (memory $bytes) (realloc $allocate)))
  (core func $set-return (canon lower (func $runtime "set-return") (memory $bytes)))

  (core module $code
    (import "memory" "memory" (memory 2))
    (import "memory" "allocate" (func $allocate (param i32 i32 i32 i32) (result i32)))
    (import "server" "get-stdout" (func $get-stdout (result i32)))
    (import "server" "write" (func $write (param i32 i32 i32 i32)))
    (import "server" "get-arguments" (func $get-arguments (param i32)))
    (import "server" "set-return" (func $set-return (param i32 i32)))
    ;; 0: the result of run, 16: the arguments' address and number, 32: the result of a write
    (data (i32.const 64) "Hello, ")
    (data (i32.const 80) "bye")

    ;; One write takes 4096 bytes at most.
    (func $print (param $stream i32) (param $text i32) (param $size i32)
      (local $part i32)
      (loop $next
        (local.set $part (select (local.get $size) (i32.const 4096) (i32.lt_u (local.get $size) (i32.const 4096))))
        (call $write (local.get $stream) (local.get $text) (local.get $part) (i32.const 32))
        (local.set $text (i32.add (local.get $text) (local.get $part)))
        (local.set $size (i32.sub (local.get $size) (local.get $part)))
        (br_if $next (local.get $size))))

    ;; Prints "Hello, NAME!" and a line feed.
    (func $greet (param $stream i32) (param $name i32) (param $size i32)
      (local $line i32)
      (local.set $line (call $allocate
        (i32.const 0) (i32.const 0) (i32.const 1) (i32.add (local.get $size) (i32.const 9))))
      (memory.copy (local.get $line) (i32.const 64) (i32.const 7))
      (memory.copy (i32.add (local.get $line) (i32.const 7)) (local.get $name) (local.get $size))
      (i32.store16 align=1 (i32.add (i32.add (local.get $line) (i32.const 7)) (local.get $size)) (i32.const 0x0a21))
      (call $print (local.get $stream) (local.get $line) (i32.add (local.get $size) (i32.const 9))))

    (func (export "run") (result i32)
      (local $stream i32)
      (local $argument i32)
      (local $left i32)
      (local.set $stream (call $get-stdout))
      (call $get-arguments (i32.const 16))
      (local.set $argument (i32.load (i32.const 16)))
      (local.set $left (i32.load (i32.const 20)))
      (block $done
        (loop $next
          (br_if $done (i32.eqz (local.get $left)))
          (call $greet (local.get $stream)
            (i32.load (local.get $argument)) (i32.load offset=4 (local.get $argument)))
          (local.set $argument (i32.add (local.get $argument) (i32.const 8)))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br $next)))
      (call $set-return (i32.const 80) (i32.const 3))
      (i32.const 0)))  ;; at this address is a 0: success

  (core instance $program (instantiate $code
    (with "memory" (instance $memory))
    (with "server" (instance
      (export "get-stdout" (func $get-stdout))
      (export "write" (func $write))
      (export "get-arguments" (func $get-arguments))
      (export "set-return" (func $set-return))))))

  ;; The export under which the server looks for the program.
  (func $run (result (result (error string)))
    (canon lift (core func $program "run") (memory $bytes) (realloc $allocate)))
  (instance $interface (export "run" (func $run)))
  (export "inferlet:core/run" (instance $interface)))
