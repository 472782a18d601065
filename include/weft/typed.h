/* SPDX-License-Identifier: MIT
 *
 * weft/typed.h: channels whose element type and direction the compiler checks.
 *
 *   WEFT_CHAN(ints, int);              once, outside of functions, in a header perhaps
 *
 *   static void count(void *arg)
 *   {
 *       ints_tx_t *out = arg;
 *       for (int i = 0; i < 10; i++)
 *           ints_send(*out, i);        an ints_rx_t would not compile
 *       ints_close(*out);
 *   }
 *
 * WEFT_CHAN(name, T) makes three types, each as large as a pointer and passed as one:
 *
 *   name_t      both ends        .tx .rx .chan
 *   name_tx_t   the sending end  .chan
 *   name_rx_t   the other one    .chan
 *
 * An end is taken from both by its member: ints_send(c.tx, 5). There is no way back, nor
 * from one end to the other. .chan is the channel itself, for what has no need of types:
 * weft_chan_len(rx.chan), weft_chan_unref(tx.chan), weft_signal_notify(c.chan, SIGINT).
 * The other way round a channel gets its type, which nobody checks:
 *
 *   ints_rx_t in = {plain};            plain: a weft_chan_t * whose elements are ints
 *
 * All three are plain values that may be copied, and stay valid as long as there is a
 * reference to the channel. Zero-initialised they are Go's nil channel.
 *
 * And static inline functions, each one call of weft.h, whose results, errors and other
 * properties they have:
 *
 *   name_t name_make(capacity)             failed: .chan is NULL
 *   int    name_send(tx, T)                weft_send
 *   int    name_try_send(tx, T)            weft_try_send
 *   int    name_send_until(tx, T, when)    weft_send_until
 *   int    name_close(tx)                  weft_chan_close: senders close
 *   int    name_recv(rx, T *)              weft_recv; NULL discards
 *   int    name_try_recv(rx, T *)          weft_try_recv
 *   int    name_recv_until(rx, T *, when)  weft_recv_until
 *   weft_case_t name_case_send(tx, const T *)   for weft_select, which reads or writes the
 *   weft_case_t name_case_recv(rx, T *)         element; either may be NULL, as there
 *   size_t name_len(c)  name_cap(c)        of name_t, as the next two
 *   name_t name_ref(c)  void name_unref(c)
 *
 * T is what can be put in front of a variable's name, without const: int, struct job,
 * char *. For what cannot, a pointer to a function say, make a typedef. An array
 * goes into a struct, as C passes none by value. At most 65535 bytes, weft_chan_make()'s
 * limit; in C++ a trivially copyable type, as elements are copied byte by byte. Arrays, larger
 * types and others are refused where WEFT_CHAN stands. A large element is copied once more
 * than by weft_send(c.chan, &element).
 *
 * A wrong end, or a struct of another channel, is an error in C and C++. A pointer to
 * another type is one in C++ and from gcc 14 on; to older compilers of C it is worth a warning,
 * which is on without being asked for (-Werror=incompatible-pointer-types makes more of it).
 * Numbers are converted as in any call.
 *
 * C11 and C++11 or later. Nothing here has a symbol in the library.
 */
#ifndef WEFT_TYPED_H
#define WEFT_TYPED_H

#include <string.h>
#include <weft.h>

#ifdef __cplusplus
#include <type_traits>
#define WEFT_TYPED_COPYABLE(T) (::std::is_trivially_copyable<T>::value)
#define WEFT_TYPED_ASSERT static_assert
#else
#define WEFT_TYPED_COPYABLE(T) 1
#define WEFT_TYPED_ASSERT _Static_assert
#endif

#if defined(__GNUC__)
#define WEFT_TYPED_INLINE static inline __attribute__((unused))
#else
#define WEFT_TYPED_INLINE static inline
#endif

/* For the macro alone. A case has one place for both directions; a sent element is only read. */
WEFT_TYPED_INLINE weft_case_t weft_typed_case(int op, weft_chan_t *chan, const void *elem)
{
    weft_case_t c;
    memset(&c, 0, sizeof c);
    c.op = op;
    c.chan = chan;
#ifdef __cplusplus
    c.elem = const_cast<void *>(elem);
#else
    c.elem = (void *)(uintptr_t)elem; /* -Wcast-qual knows no better way */
#endif
    return c;
}

/* Parameters end in _ so that they hide no variable of the program's. The union's members
 * are one pointer under three names. const stands behind T, as T may be "char *". A typedef of
 * a function that returns T cannot be made for an array. The last assertion lacks its
 * semicolon: that is the user's. */
#define WEFT_CHAN(name, T)                                                                         \
    typedef struct name##_tx_t {                                                                   \
        weft_chan_t *chan;                                                                         \
    } name##_tx_t;                                                                                 \
    typedef struct name##_rx_t {                                                                   \
        weft_chan_t *chan;                                                                         \
    } name##_rx_t;                                                                                 \
    typedef union name##_t {                                                                       \
        weft_chan_t *chan;                                                                         \
        name##_tx_t tx;                                                                            \
        name##_rx_t rx;                                                                            \
    } name##_t;                                                                                    \
    typedef T name##_element_must_not_be_an_array(void);                                           \
    WEFT_TYPED_ASSERT(WEFT_TYPED_COPYABLE(T), "WEFT_CHAN: T must be trivially copyable");          \
                                                                                                   \
    WEFT_TYPED_INLINE name##_t name##_make(size_t capacity_)                                       \
    {                                                                                              \
        name##_t both_ = {weft_chan_make(sizeof(T), capacity_)};                                   \
        return both_;                                                                              \
    }                                                                                              \
    WEFT_TYPED_INLINE name##_t name##_ref(name##_t both_)                                          \
    {                                                                                              \
        weft_chan_ref(both_.chan);                                                                 \
        return both_;                                                                              \
    }                                                                                              \
    WEFT_TYPED_INLINE void name##_unref(name##_t both_)                                            \
    {                                                                                              \
        weft_chan_unref(both_.chan);                                                               \
    }                                                                                              \
    WEFT_TYPED_INLINE size_t name##_len(name##_t both_)                                            \
    {                                                                                              \
        return weft_chan_len(both_.chan);                                                          \
    }                                                                                              \
    WEFT_TYPED_INLINE size_t name##_cap(name##_t both_)                                            \
    {                                                                                              \
        return weft_chan_cap(both_.chan);                                                          \
    }                                                                                              \
                                                                                                   \
    WEFT_TYPED_INLINE int name##_send(name##_tx_t tx_, T elem_)                                    \
    {                                                                                              \
        return weft_send(tx_.chan, &elem_);                                                        \
    }                                                                                              \
    WEFT_TYPED_INLINE int name##_try_send(name##_tx_t tx_, T elem_)                                \
    {                                                                                              \
        return weft_try_send(tx_.chan, &elem_);                                                    \
    }                                                                                              \
    WEFT_TYPED_INLINE int name##_send_until(name##_tx_t tx_, T elem_, int64_t deadline_)           \
    {                                                                                              \
        return weft_send_until(tx_.chan, &elem_, deadline_);                                       \
    }                                                                                              \
    WEFT_TYPED_INLINE int name##_close(name##_tx_t tx_)                                            \
    {                                                                                              \
        return weft_chan_close(tx_.chan);                                                          \
    }                                                                                              \
    WEFT_TYPED_INLINE weft_case_t name##_case_send(name##_tx_t tx_, T const *elem_)                \
    {                                                                                              \
        return weft_typed_case(WEFT_SEND, tx_.chan, elem_);                                        \
    }                                                                                              \
                                                                                                   \
    WEFT_TYPED_INLINE int name##_recv(name##_rx_t rx_, T *elem_)                                   \
    {                                                                                              \
        return weft_recv(rx_.chan, elem_);                                                         \
    }                                                                                              \
    WEFT_TYPED_INLINE int name##_try_recv(name##_rx_t rx_, T *elem_)                               \
    {                                                                                              \
        return weft_try_recv(rx_.chan, elem_);                                                     \
    }                                                                                              \
    WEFT_TYPED_INLINE int name##_recv_until(name##_rx_t rx_, T *elem_, int64_t deadline_)          \
    {                                                                                              \
        return weft_recv_until(rx_.chan, elem_, deadline_);                                        \
    }                                                                                              \
    WEFT_TYPED_INLINE weft_case_t name##_case_recv(name##_rx_t rx_, T *elem_)                      \
    {                                                                                              \
        return weft_typed_case(WEFT_RECV, rx_.chan, elem_);                                        \
    }                                                                                              \
    WEFT_TYPED_ASSERT(sizeof(T) <= 65535, "WEFT_CHAN: T is larger than weft_chan_make allows")

#endif
