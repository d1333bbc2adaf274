/* cmocka's assert_in_range was renamed in 2.0. Include behind <cmocka.h>. */
#ifndef MQR_TESTS_HARNESS_BETWEEN_H
#define MQR_TESTS_HARNESS_BETWEEN_H

#define assert_between(value, least, most) \
	assert_true((long long)(value) >= (long long)(least) && (long long)(value) <= (long long)(most))

#endif
