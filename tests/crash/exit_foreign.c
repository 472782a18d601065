/* SPDX-License-Identifier: MIT
 *
 * weft_exit() of a thread that is no coroutine. */
#include <weft.h>

int main(void)
{
    weft_exit();
}
